// The last line calls this with `arguments` of WebDriver's "execute async script": a condition over the document is
// tried at every change of it. Answers {met: what the condition returned} or {late: what the page showed}.
const until = (condition, timeoutMs, done) => {
  const show = () => Object.fromEntries([...document.querySelectorAll('[data-testid]')].map((element) => [
    element.dataset.testid,
    Object.entries(element.dataset).filter(([key]) => key !== 'testid').map(([key, value]) => `${key}=${value}`)
      .concat(element.childElementCount === 0 ? [element.textContent.trim().slice(0, 200)] : []).join(' '),
  ]));
  let timer;
  const observer = new MutationObserver(() => attempt());
  const finish = (result) => {
    observer.disconnect();
    clearTimeout(timer);
    done(result);
  };
  const attempt = () => {
    const met = condition();
    if (met) finish({ met });
    return met;
  };
  if (attempt()) return;
  observer.observe(document, { subtree: true, childList: true, attributes: true, characterData: true });
  timer = setTimeout(() => finish({ late: { title: document.title, ...show() } }), timeoutMs);
};
