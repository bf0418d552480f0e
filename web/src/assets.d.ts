// Style sheets of shadow trees are bundled as text (see scripts/build.mjs).
declare module "*.shadow.css" {
  const text: string;
  export default text;
}
