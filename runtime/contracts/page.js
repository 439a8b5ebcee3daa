const box = document.getElementById("_search");
const narrow = matchMedia("(max-width: 48rem)").matches;
for (const group of document.querySelectorAll("nav details[open]")) group.open = !narrow;
box.hidden = false;
box.addEventListener("input", () => {
  const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const each of document.querySelectorAll("article")) {
    const text = each.textContent.toLowerCase();
    const link = document.querySelector(`nav a[href="#${CSS.escape(each.id)}"]`);
    each.hidden = !words.every((word) => text.includes(word));
    if (link) link.parentElement.hidden = each.hidden;
  }
  for (const part of document.querySelectorAll("main > section, nav details")) {
    const entry = part.open === undefined ? "article" : "li";
    part.hidden = words.length > 0 && !part.querySelector(`${entry}:not([hidden])`);
    if (entry === "li" && words.length) part.open = true;
  }
});
