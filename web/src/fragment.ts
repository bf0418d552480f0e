/** The part of the address after `#`: which camera is watched, and a token on its way in. */

export interface CameraKey {
  readonly namespace: string;
  readonly name: string;
}

export interface Fragment {
  readonly watch: CameraKey | null;
  readonly token: string | null;
}

export function parseFragment(hash: string): Fragment {
  // URLSearchParams reads + as a space; tokens may hold one.
  const values = new URLSearchParams(hash.replace(/^#/, "").replaceAll("+", "%2B"));
  const [namespace, name, ...rest] = (values.get("watch") ?? "").split("/");
  const watch = namespace && name && rest.length === 0 ? { namespace, name } : null;
  return { watch, token: values.get("token")?.trim() || null };
}

/** The fragment that opens the camera (or the wall); it never holds a token. */
export function formatFragment(watch: CameraKey | null): string {
  return watch === null ? "#" : `#watch=${encodeURIComponent(watch.namespace)}/${encodeURIComponent(watch.name)}`;
}
