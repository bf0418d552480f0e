/** The page: sign-in, the wall, one camera big. The address decides which; a 401 anywhere leads back to sign-in. */
import { Api, type Me } from "./api";
import { h, setText } from "./dom";
import { parseFragment } from "./fragment";
import { SightlinePlayer, type StateDetail } from "./player";
import { ProblemError } from "./problem";
import { SignIn, signInWords, TokenStore } from "./signin";
import { Wall } from "./wall";
import { Watch } from "./watch";

const tokens = new TokenStore();
const api = new Api({
  base: new URL("./", document.baseURI).href,
  token: () => tokens.get(),
  fetch: (input, init) => fetch(input, init),
});
SightlinePlayer.tokenProvider = () => tokens.get();

const main = element("main");
const who = element("who");
const userName = element("user");
const signIn = new SignIn(verify, enter);
let view: { element: HTMLElement; start?(): void; stop?(): void } | null = null;
let wall: Wall | null = null;

function element(id: string): HTMLElement {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`index.html has no #${id}`);
  return found;
}

async function verify(token: string): Promise<Me> {
  tokens.set(token);
  try {
    return await api.me();
  } catch (error) {
    tokens.set(null);
    throw error;
  }
}

function enter(me: Me): void {
  setText(userName, me.user);
  who.hidden = false;
  wall = new Wall(api, onError);
  route();
}

function leave(words: string): void {
  who.hidden = true;
  show(signIn); // players that play end their sessions, for which they need the token
  tokens.set(null);
  wall = null;
  document.title = "Sightline";
  signIn.open(words);
}

function onError(error: unknown): void {
  if (error instanceof ProblemError && error.problem.status === 401 && wall !== null) leave(signInWords(error));
}

function route(): void {
  if (wall === null) return;
  const { watch } = parseFragment(location.hash);
  document.title = watch === null ? "Sightline" : `${watch.name} · Sightline`;
  show(watch === null ? wall : new Watch(api, watch, onError));
}

function show(next: NonNullable<typeof view>): void {
  view?.stop?.();
  view = next;
  main.replaceChildren(next.element);
  next.start?.();
}

async function start(): Promise<void> {
  tokens.takeFromAddress();
  if (tokens.get() === null) return leave("");
  wall = null; // of whoever was signed in before
  show({ element: h("p", { className: "quiet starting", attrs: { role: "status" } }, "Signing in…") });
  try {
    enter(await api.me());
  } catch (error) {
    const rejected = error instanceof ProblemError && error.problem.status === 401;
    if (rejected) return leave(signInWords(error));
    // The server is away, the token may be good: keep it and let the person decide when to try again.
    const again = h("button", { type: "button", className: "primary" }, "Try again");
    again.addEventListener("click", () => void start());
    const words = h("p", { className: "quiet" }, signInWords(error));
    show({ element: h("div", { className: "empty", attrs: { role: "alert" } }, h("h2", {}, "Not signed in yet"), words, again) });
  }
}

addEventListener("hashchange", () => {
  if (tokens.takeFromAddress()) void start();
  else route();
});
addEventListener("keydown", (event) => {
  if (event.key === "Escape" && view instanceof Watch && document.fullscreenElement === null) location.hash = "";
});
document.addEventListener("sightline-state", (event) => {
  const { problem } = (event as CustomEvent<StateDetail>).detail;
  if (problem?.status === 401) onError(new ProblemError(problem));
});
element("sign-out").addEventListener("click", () => leave("You are signed out."));
void start();
