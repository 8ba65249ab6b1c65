(function () {
  "use strict";
  const specs = JSON.parse(document.getElementById("specs").textContent);
  const font = getComputedStyle(document.body).fontFamily;
  const config = {
    background: null, font: font,
    view: {stroke: null},
    axis: {
      labelColor: "currentColor", titleColor: "currentColor", labelOpacity: 0.75, titleOpacity: 0.75,
      gridColor: "currentColor", gridOpacity: 0.12, domainColor: "currentColor", domainOpacity: 0.3,
      tickColor: "currentColor", tickOpacity: 0.3, titleFontWeight: "normal", labelFontSize: 11, titleFontSize: 12
    }
  };
  function draw(element) {
    if (element.dataset.drawn) { return; }
    element.dataset.drawn = "yes";
    // ast: expressions are interpreted, because the page's policy forbids compiling text to code.
    const options = {mode: "vega-lite", renderer: "svg", actions: false, ast: true, config: config};
    vegaEmbed(element, specs[element.id], options)
      .catch(function (error) { element.textContent = "This chart could not be drawn: " + error.message; });
  }
  const elements = Array.from(document.querySelectorAll(".chart"));
  // A chart takes its width from the page, so one inside a closed part is drawn when it is opened.
  const watcher = new IntersectionObserver(function (entries) {
    entries.filter(function (entry) { return entry.isIntersecting; }).forEach(function (entry) {
      watcher.unobserve(entry.target);
      draw(entry.target);
    });
  }, {rootMargin: "400px"});
  elements.forEach(function (element) {
    element.closest("figure").hidden = false;
    watcher.observe(element);
  });
  document.querySelectorAll(".curves[hidden], details[hidden]").forEach(function (part) { part.hidden = false; });
  window.addEventListener("beforeprint", function () { elements.forEach(draw); });
})();
