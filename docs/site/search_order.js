// Order of the site's search: chapters, then guides, then modules; inside each as Sphinx has it.
const PLACES = {notebooks: 200, docs: 100};

// Not a constant: the script that uses it declares it, too.
var Scorer = {
  score: ([page, , , , score]) => score + (PLACES[page.split("/")[0]] ?? 0),

  // Sphinx' own.
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: {0: 15, 1: 5, 2: -5},
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
