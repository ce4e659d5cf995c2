"""Kernels that need not import torch again: they are forked from a process that has it.

    python forked_kernel.py serve SOCKET           that process, until its standard input closes
    python forked_kernel.py run SOCKET -f FILE     what Jupyter starts: a kernel, and its end

Dozens of kernels start in a test run, and importing takes each of them longer than many a chapter.
What a notebook sees is ipykernel's launcher in a fresh process that finds modules imported already.
"""

import contextlib
import gc
import json
import os
import signal
import socket
import sys
import time

# Not ipywidgets, nor the inline backend: they look for their kernel when they are imported.
MODULES = (
    "IPython",
    "ipykernel.ipkernel",
    "ipykernel.kernelapp",
    "matplotlib.backends.backend_agg",
    "torchvision",
    "blendmask_lite.figures",
    "blendmask_lite.research",
    "blendmask_lite.training.run",
)


def serve(address: str) -> None:
    """Import when the first asks, and fork a kernel for everyone who does."""
    import importlib
    import select
    import threading

    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"{address}.new")
    listener.listen()  # who asks early waits for the imports
    os.rename(f"{address}.new", address)
    if sys.stdin in select.select([listener, sys.stdin], [], [])[0]:
        return  # no test has a notebook
    os.environ["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"  # as ipykernel sets it
    sys.path.pop(0)  # the folder of this file
    for name in MODULES:
        importlib.import_module(name)
    gc.freeze()  # no kernel looks for garbage in them
    parent = os.getpid()
    threading.Thread(target=end_with_input, args=(parent,), daemon=True).start()
    while True:
        connection, _ = listener.accept()
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if os.fork() == 0:
            listener.close()
            become_kernel(connection)
            return
        connection.close()


def end_with_input(parent: int) -> None:
    while sys.stdin.buffer.read1():
        pass
    os.kill(parent, signal.SIGTERM)


def become_kernel(connection: socket.socket) -> None:
    """Run a kernel in the place that the asking process has."""
    import threading

    from ipykernel import kernelapp

    length, files, _, _ = socket.recv_fds(connection, 4, 2)
    with connection.makefile("rb") as stream:
        connection_file, folder, environment = json.loads(
            stream.read(int.from_bytes(length, "big"))
        )
    for number, file in enumerate(files, start=1):
        os.dup2(file, number)
        os.close(file)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    connection.sendall(os.getpid().to_bytes(4, "big"))
    threading.Thread(target=end_with_connection, args=(connection,), daemon=True).start()
    sys.argv = ["ipykernel_launcher", "-f", connection_file]
    sys.argv += [f"--IPKernelApp.parent_handle={environment['JPY_PARENT_PID']}"]  # read at import
    kernelapp.launch_new_instance()


def end_with_connection(connection: socket.socket) -> None:
    """Whoever kills the asking process means the kernel."""
    connection.recv(1)
    os.kill(os.getpid(), signal.SIGKILL)


def run(address: str, connection_file: str) -> None:
    """Ask for a kernel, hand on signals to it, and end when it ends."""
    request = json.dumps([connection_file, os.getcwd(), dict(os.environ)]).encode()
    with socket.socket(socket.AF_UNIX) as connection:
        while not os.path.exists(address):  # at the first kernel, for the start of an interpreter
            time.sleep(0.02)
        connection.connect(address)
        socket.send_fds(connection, [len(request).to_bytes(4, "big")], [1, 2])
        connection.sendall(request)
        kernel = int.from_bytes(connection.recv(4, socket.MSG_WAITALL), "big")
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda number, _: os.kill(kernel, number))
        connection.recv(1)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
    else:
        run(sys.argv[2], sys.argv[4])
