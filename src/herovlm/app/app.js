() => {
  let shown = null;
  const tidy = () => {
    // Gradio calls the buttons of a choice "Remove 0", "Remove 1"
    document.querySelectorAll("#methods .token").forEach((token) =>
      token.querySelectorAll("[title]").forEach((button) => {
        button.title = `Remove ${token.innerText.trim()}`;
        button.setAttribute("aria-label", button.title);
      }));
    // an answer that begins low, as on a phone, comes up
    const answer = document.querySelector(".hv-result");
    if (answer && answer !== shown && answer.getBoundingClientRect().top > 0.6 * innerHeight) answer.scrollIntoView();
    shown = answer;
  };
  new MutationObserver(tidy).observe(document.body, {childList: true, subtree: true});
  tidy();
}
