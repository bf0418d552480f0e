/**
 * Beginning to play without a click.
 *
 * Browsers let a page show pictures by itself, but begin to sound only for a while after somebody has touched it. A
 * stream that comes back by itself is therefore shown without its sound where it must be.
 */

/** False where the browser wants a click for the picture too. `mute` has to set `muted`. */
export async function start(video: Pick<HTMLVideoElement, "muted" | "play">, mute: () => void): Promise<boolean> {
  try {
    await video.play();
    return true;
  } catch (error) {
    const refused = error instanceof DOMException && error.name === "NotAllowedError";
    if (!refused) return true; // another stream has taken its place
    if (video.muted) return false;
    mute();
    return start(video, mute);
  }
}
