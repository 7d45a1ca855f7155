// Draws the figures in the colours of the reader's scheme, and on paper in the light ones.
"use strict";
(() => {
  const palettes = JSON.parse(document.getElementById("palettes").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const narrow = matchMedia("(max-width: 40rem)");
  const config = { displayModeBar: false, responsive: true, showTips: false };
  let printing = false;

  const coloured = (text) => {
    const palette = palettes[dark.matches && !printing ? "dark" : "light"];
    return JSON.parse(text, (_, value) => {
      const found = typeof value === "string" && /^var\(--([a-z0-9]+)\)$/.exec(value);
      return found && palette[found[1]] ? palette[found[1]] : value;
    });
  };

  const draw = (plot) => {
    const figure = coloured(document.getElementById(plot.dataset.figure).textContent);
    figure.layout.font.family = getComputedStyle(document.body).fontFamily;
    const stacked = narrow.matches && figure.layout.xaxis2;
    plot.style.height = `${Number(plot.dataset.height) + (stacked ? 240 : 0)}px`;
    if (narrow.matches) {
      figure.layout.font.size = 11;
      figure.layout.annotations = (figure.layout.annotations || []).filter((each) => !each.name);
      stack(figure.layout);
      thin(figure.layout.xaxis);
    }
    Plotly.react(plot, figure.data, figure.layout, config);
    plot.dataset.drawn = "yes";
  };

  // Every other tick, where all of them would run into one another.
  const thin = (axis) => {
    if (!axis.tickvals || axis.tickvals.length < 5) return;
    axis.tickvals = axis.tickvals.filter((_, place) => place % 2 === 0);
    if (axis.ticktext) axis.ticktext = axis.ticktext.filter((_, place) => place % 2 === 0);
  };

  // Two plots side by side stand one below the other where there is little room.
  const stack = (layout) => {
    if (!layout.xaxis2) return;
    Object.assign(layout.xaxis, { domain: [0, 1], anchor: "y" });
    Object.assign(layout.yaxis, { domain: [0.56, 1], anchor: "x" });
    Object.assign(layout.xaxis2, { domain: [0, 1], anchor: "y2" });
    Object.assign(layout.yaxis2, { domain: [0, 0.42], anchor: "x2" });
  };

  const plots = () => [...document.querySelectorAll(".plot")];
  const visible = (plot) => !plot.closest("details:not([open])");
  const redraw = () => plots().filter((plot) => plot.dataset.drawn).forEach(draw);

  const drawNext = () => {
    const next = plots().find((plot) => visible(plot) && !plot.dataset.drawn);
    if (!next) return;
    draw(next);
    setTimeout(drawNext);
  };

  // Boxes that scroll take the keyboard's focus, so that arrow keys move them; others would only be in the way.
  const focusable = () => document.querySelectorAll(".box, pre").forEach((box) => {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  });

  document.addEventListener("toggle", () => { drawNext(); focusable(); }, true);
  dark.addEventListener("change", redraw);
  narrow.addEventListener("change", redraw);
  addEventListener("resize", focusable);
  const closed = [];
  addEventListener("beforeprint", () => {
    printing = true;
    closed.push(...document.querySelectorAll("details:not([open])"));
    closed.forEach((each) => { each.open = true; });
    plots().forEach(draw);
  });
  addEventListener("afterprint", () => {
    printing = false;
    closed.splice(0).forEach((each) => { each.open = false; });
    redraw();
  });
  drawNext();
  focusable();
})();
