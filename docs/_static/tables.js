// Let tables fit their column: long names may break after punctuation, and for the stacked rows of
// pages.css each cell of a table with three or more columns is named by its head.
document.addEventListener("DOMContentLoaded", () => {
  for (const table of document.querySelectorAll("article table.docutils")) {
    for (const code of table.querySelectorAll("code")) allowBreaks(code);
    const heads = [...table.querySelectorAll("thead th")].map((head) => head.textContent.trim());
    if (heads.length > 2) nameCells(table, heads);
  }
});

function allowBreaks(code) {
  const texts = document.createTreeWalker(code, NodeFilter.SHOW_TEXT);
  const long = [];
  while (texts.nextNode()) {
    if (/\S{22}/.test(texts.currentNode.data)) long.push(texts.currentNode);
  }
  for (const text of long) {
    const parts = text.data.split(/(?<=[_./:=,])/);
    text.replaceWith(...parts.flatMap((part, index) => (index ? [document.createElement("wbr"), part] : [part])));
  }
}

function nameCells(table, heads) {
  for (const row of table.querySelectorAll("tbody tr")) {
    [...row.cells].forEach((cell, column) => {
      if (column > 0 && heads[column]) cell.dataset.label = heads[column];
    });
  }
}
