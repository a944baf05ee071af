// The comparison of two pictures: a slider moves the edge between them; the buttons choose the moment.
(function () {
  const compare = document.querySelector(".compare");
  if (!compare) return;
  const slider = compare.querySelector("input");
  const pairs = document.querySelectorAll(".pair");
  const buttons = document.querySelectorAll("[data-pair]");

  function show(number) {
    const pair = pairs[number];
    const [before, after] = pair.querySelectorAll("img");
    compare.querySelector(".under").src = pair.dataset.before || before.src;
    compare.querySelector(".over").src = pair.dataset.after || after.src;
    buttons.forEach((button, i) => button.setAttribute("aria-pressed", i === number));
  }

  slider.addEventListener("input", () => compare.style.setProperty("--cut", slider.value + "%"));
  buttons.forEach((button, i) =>
    button.addEventListener("click", () => {
      show(i);
      compare.scrollIntoView({ block: "nearest" });
    }),
  );
  show(Math.floor((pairs.length - 1) / 2));
})();
