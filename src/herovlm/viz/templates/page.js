(() => {
  const form = document.querySelector("form");
  const figures = [...document.querySelectorAll("figure[data-question]")];
  document.documentElement.classList.add("js");
  const value = (name) => form.querySelector(`[name=${name}]:checked`)?.value;
  const show = () => {
    const question = value("question") ?? "0", view = value("view") === "why" ? form.score.value : value("view") ?? "kept";
    const unticked = new Set([...form.querySelectorAll("[name=method]:not(:checked)")].map((x) => x.value));
    for (const figure of figures) {
      const { question: q, method: m } = figure.dataset;
      figure.classList.toggle("off", q !== question || unticked.has(m));
      const layers = [...figure.querySelectorAll("[data-view]")];
      for (const layer of layers) layer.classList.toggle("off", layer.dataset.view !== view);
      figure.classList.toggle("missing", view.startsWith("why-") && !layers.some((x) => x.dataset.view === view));
    }
    for (const text of document.querySelectorAll("[data-for]")) text.classList.toggle("off", text.dataset.for !== question);
    document.documentElement.dataset.view = view;
    document.querySelector(".scale")?.classList.toggle("off", !view.startsWith("why-"));
  };
  form.addEventListener("change", (event) => {
    if (event.target.name === "score") form.querySelector("[name=view][value=why]").checked = true;
    show();
  });
  for (const button of form.querySelectorAll("button")) button.addEventListener("click", () => {
    for (const box of form.querySelectorAll("[name=method]")) box.checked = Boolean(button.value);
    show();
  });
  show();
})();
