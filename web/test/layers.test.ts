import assert from "node:assert/strict";
import { test } from "node:test";
import { layersLink, qualityLabel, readQualities } from "../src/layers";

const LAYERS = '<https://cameras.example/whep/s/layers>; rel="urn:ietf:params:whep:ext:core:layer"';

test("the link is found among others", () => {
  const ice = '<stun:stun.example>; rel="ice-server"';
  assert.equal(layersLink(`${ice}, ${LAYERS}`), "https://cameras.example/whep/s/layers");
  assert.equal(layersLink(`${LAYERS}, ${ice}`), "https://cameras.example/whep/s/layers");
  assert.equal(layersLink(ice), null);
  assert.equal(layersLink(null), null);
});

test("qualities come in the order of their size", () => {
  const body = {
    "0": {
      active: [{ encodingId: "sd", width: 640, height: 360 }],
      inactive: [{ encodingId: "tiny", height: null }, { encodingId: "main", height: 1080 }],
      selected: "sd",
      automatic: true,
    },
  };
  assert.deepEqual(readQualities(body), {
    list: [
      { name: "main", height: 1080 },
      { name: "sd", height: 360 },
      { name: "tiny", height: null },
    ],
    selected: "sd",
    automatic: true,
  });
});

test("nonsense is no choice", () => {
  for (const body of [null, 7, "x", [], {}, { "0": null }, { "0": {} }]) assert.equal(readQualities(body), null);
  assert.deepEqual(readQualities({ "0": { selected: "main", active: [{}, 7, null], inactive: "x" } }), {
    list: [],
    selected: "main",
    automatic: false,
  });
});

test("labels", () => {
  assert.equal(qualityLabel({ name: "main", height: 1080 }), "Full · 1080p");
  assert.equal(qualityLabel({ name: "sd", height: null }), "sd");
});
