"use strict";
// What is wrong with a page, as sentences; run by test_in_a_browser.py in a frame around it.

function wrong(frame) {
  const page = frame.contentDocument, window = frame.contentWindow;
  const inside = [...page.body.querySelectorAll("*")].filter(part => !part.closest("script, style"));
  const found = [...tooWide(page, window, inside), ...tooFaint(window, inside), ...unlabelled(page)];
  page.querySelectorAll("table.sortable").forEach((table, number) => found.push(...unsorted(table, number)));
  return found;
}

function tooWide(page, window, inside) {
  const found = [];
  if (page.documentElement.scrollWidth > window.innerWidth) found.push(`the page is ${page.documentElement.scrollWidth} px wide`);
  for (const part of inside) {
    const scrolls = part.parentElement.closest(".scroll");
    const right = part.getBoundingClientRect().right;
    if (!scrolls && right > window.innerWidth + 1) found.push(`${part.tagName} ends at ${right} px: ${part.textContent.slice(0, 40)}`);
  }
  return found;
}

function luminance(colour) {
  const levels = colour.match(/[\d.]+/g).slice(0, 3).map(level => level / 255);
  const linear = levels.map(x => x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
  return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
}

function behind(window, part) {
  for (let at = part; at; at = at.parentElement) {
    const colour = window.getComputedStyle(at).backgroundColor;
    if (!/^rgba\(.*, 0\)$/.test(colour)) return colour;
  }
  return "rgb(255, 255, 255)";
}

function tooFaint(window, inside) {
  const found = [];
  for (const part of inside) {
    const said = [...part.childNodes].filter(node => node.nodeType === 3 && node.textContent.trim());
    const style = window.getComputedStyle(part);
    if (!said.length || style.display === "none") continue;
    const colour = part.namespaceURI.endsWith("svg") ? style.fill : style.color;
    if (/254\)|rgb\(1, 1, 1\)/.test(colour)) continue; // on a cell with a colour of its own
    const both = [luminance(colour), luminance(behind(window, part))].sort((a, b) => b - a);
    const contrast = (both[0] + 0.05) / (both[1] + 0.05);
    if (contrast < 4.5) found.push(`contrast ${contrast.toFixed(1)} of ${colour}: ${said[0].textContent.trim()}`);
  }
  return found;
}

function unlabelled(page) {
  const found = [], levels = [...page.querySelectorAll("h1, h2, h3, h4")].map(part => Number(part.tagName[1]));
  levels.forEach((level, i) => { if (level > (levels[i - 1] ?? 0) + 1) found.push(`heading ${i} skips a level`); });
  for (const part of page.querySelectorAll("[role=img], [role=region]")) if (!part.getAttribute("aria-label")) found.push("a part without a label");
  for (const part of page.querySelectorAll("img:not([alt])")) found.push(`an image without words: ${part.src.slice(0, 40)}`);
  for (const part of page.querySelectorAll("button")) if (!part.textContent.trim()) found.push("a button without words");
  for (const part of page.querySelectorAll("nav a")) if (!page.getElementById(part.hash.slice(1))) found.push(`${part.hash} is nowhere`);
  return found;
}

function unsorted(table, number) {
  const found = [], headings = [...table.tHead.rows[0].cells], count = table.tBodies[0].rows.length;
  headings.forEach((heading, column) => {
    for (const expected of column ? ["descending", "ascending"] : ["ascending", "descending"]) {
      heading.querySelector("button").click();
      const cells = [...table.tBodies[0].rows].map(row => row.cells[column]);
      const numbers = cells.filter(cell => "value" in cell.dataset).map(cell => Number(cell.dataset.value));
      const words = cells.filter(cell => !("value" in cell.dataset)).map(cell => cell.textContent);
      const sign = expected === "ascending" ? 1 : -1;
      const right = numbers.every((x, i) => !i || sign * (x - numbers[i - 1]) >= 0)
        && words.every((x, i) => !i || sign * x.localeCompare(words[i - 1]) >= 0)
        && cells.slice(numbers.length).every(cell => !("value" in cell.dataset));
      if (!right || cells.length !== count || heading.getAttribute("aria-sort") !== expected)
        found.push(`table ${number}, column ${column} is not ${expected}`);
    }
  });
  return found;
}

addEventListener("load", () => {
  const frames = [...document.querySelectorAll("iframe")];
  const found = frames.map(frame => [frame.title, frame.contentWindow.innerWidth, wrong(frame)]);
  const dark = getComputedStyle(frames[0].contentDocument.body).backgroundColor;
  document.getElementById("found").textContent = JSON.stringify({ background: dark, found });
});
