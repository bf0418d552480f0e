/**
 * Sign-in by a pasted token.
 *
 * The token is kept in sessionStorage: it ends with the tab and other tabs do not see it. A token that comes in the
 * address (`#token=...`) is taken out of it at once, so that it is neither bookmarked nor shown.
 */
import type { Me } from "./api";
import { h, icon, setText } from "./dom";
import { formatFragment, parseFragment } from "./fragment";
import { problemOfError } from "./problem";

const KEY = "sightline.token";
const REFUSED = "This token was not accepted. It may have expired, or be meant for another server.";

export class TokenStore {
  #memory: string | null = null; // where the browser forbids storage, the token lives as long as the page

  get(): string | null {
    try {
      return sessionStorage.getItem(KEY) ?? this.#memory;
    } catch {
      return this.#memory;
    }
  }

  set(token: string | null): void {
    this.#memory = token;
    try {
      if (token === null) sessionStorage.removeItem(KEY);
      else sessionStorage.setItem(KEY, token);
    } catch {
      // storage is switched off
    }
  }

  /** Takes a token out of the address bar. True when there was one. */
  takeFromAddress(): boolean {
    const { token, watch } = parseFragment(location.hash);
    if (token === null) return false;
    this.set(token);
    const clean = watch === null ? location.pathname + location.search : formatFragment(watch);
    history.replaceState(history.state, "", clean);
    return true;
  }
}

export class SignIn {
  readonly element: HTMLElement;
  readonly #input = h("input", {
    id: "token",
    type: "password",
    autocomplete: "off",
    spellcheck: false,
    required: true,
    placeholder: "Paste your token",
    attrs: { "aria-describedby": "signin-words" },
  });
  readonly #words = h("p", { id: "signin-words", className: "signin-words", attrs: { role: "alert" } });
  readonly #button = h("button", { className: "primary", type: "submit" }, "Sign in");

  constructor(signIn: (token: string) => Promise<Me>, done: (me: Me) => void) {
    const form = h(
      "form",
      { className: "signin-card" },
      h("div", { className: "signin-mark" }, icon("camera")),
      h("h1", {}, "Sign in to Sightline"),
      h("p", { className: "quiet" }, "Your token decides which cameras you may see. It stays in this tab and is gone when you close it."),
      h("label", { htmlFor: "token" }, "Access token"),
      this.#input,
      this.#words,
      this.#button,
    );
    this.element = h("section", { className: "signin" }, form);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      void this.#submit(signIn, done);
    });
  }

  /** Shows the form with the reason why it is shown, if there is one. */
  open(words: string): void {
    this.#input.value = "";
    setText(this.#words, words);
    this.#input.focus();
  }

  async #submit(signIn: (token: string) => Promise<Me>, done: (me: Me) => void): Promise<void> {
    // People paste with the word before it, too.
    const token = this.#input.value.trim().replace(/^Bearer\s+/i, "");
    if (token === "") return;
    this.#button.disabled = true;
    setText(this.#words, "");
    try {
      const me = await signIn(token);
      this.#input.value = "";
      done(me);
    } catch (error) {
      setText(this.#words, signInWords(error));
      this.#input.select();
    } finally {
      this.#button.disabled = false;
    }
  }
}

export function signInWords(error: unknown): string {
  const problem = problemOfError(error);
  return problem.status === 401 ? REFUSED : `${problem.title}. ${problem.detail}`;
}
