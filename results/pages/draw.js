// Sets the colours of every figure from the scheme, also when it changes. A figure names colours as
// a style sheet would. Draws one figure at a time, so that the page can be read meanwhile.
const dark = matchMedia('(prefers-color-scheme: dark)');
async function draw() {
  const css = getComputedStyle(document.documentElement);
  for (const box of document.querySelectorAll('.chart')) {
    await new Promise((resolve) => setTimeout(resolve));
    const text = box.previousElementSibling.textContent;
    const coloured = text.replace(/var\((--[a-z]+)\)/g, (_, name) => css.getPropertyValue(name).trim());
    const figure = JSON.parse(coloured);
    Plotly.react(box, figure.data, figure.layout, {responsive: true, displaylogo: false,
      modeBarButtonsToRemove: ['select2d', 'lasso2d', 'autoScale2d'],
      toImageButtonOptions: {format: 'svg', filename: box.dataset.name}});
  }
}
dark.addEventListener('change', draw);
draw();
