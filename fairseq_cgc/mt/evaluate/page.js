"use strict";
// The page is complete without this script, which adds the filter and the search.
const pairs = [...document.querySelectorAll(".pair")].map((element) => ({
  element,
  better: element.dataset.better,
  text: element.querySelector(".texts").textContent.toLowerCase(),
}));
const tools = document.querySelector(".tools");
const search = tools.querySelector("input[type=search]");
const shown = tools.querySelector("output");

function update() {
  const side = tools.querySelector("input[name=side]:checked").value;
  const wanted = search.value.trim().toLowerCase();
  let count = 0;
  for (const pair of pairs) {
    const visible = (side === "all" || side === pair.better) && pair.text.includes(wanted);
    pair.element.hidden = !visible;
    count += visible;
  }
  shown.textContent = `${count} of ${pairs.length} shown`;
}

tools.addEventListener("input", update);
// Browsers restore what was chosen before a reload.
addEventListener("pageshow", update);
tools.hidden = false;
update();
