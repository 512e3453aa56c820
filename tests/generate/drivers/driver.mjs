// Calls all methods of the generated client. Usage: driver.mjs URL MODE; prints what came of each as JSON.

import { once } from "node:events";

import { CallTimeout, ConnectionLost, RemoteError, TestsGalleryClient } from "./tests-gallery-client.mjs";
import { TestsGalleryNobodyClient, Unroutable } from "./tests-gallery-nobody-client.mjs";

const SIZE = { fullWidth: 3, height: 4 };
const PICTURE = {
  id: "12345678-1234-5678-1234-567812345678",
  frame: { colour: "red", size: SIZE },
  at: [1.0, 2.0],
  labels: [{ text: "a" }, { text: "b", lang: "de" }],
};

async function report(name, call) {
  const result = await call().catch(outcome);
  console.log(JSON.stringify([name, result ?? null]));
}

function outcome(error) {
  if (error instanceof RemoteError) {
    return [error.code, error.type, error.message, error.retryable, error.details, error.executed];
  }
  if (error instanceof CallTimeout) {
    return ["timeout", error.executed];
  }
  if (error instanceof Unroutable) {
    return ["unroutable", error.executed];
  }
  return error instanceof ConnectionLost ? ["lost"] : String(error);
}

async function callAll(gallery, nobody) {
  await report("add", () => gallery.add(1, -2));
  await report("greet", () => gallery.greet("Ann"));
  await report("greet with options", () => gallery.greet("Ann", { title: "Dr", times: 2, mark: "?" }));
  await report("end", () => gallery.end("x", true, null, { a: 1 }));
  await report("reverse", async () => [...(await gallery.reverse(Buffer.from([0, 200, 3])))]);
  await report("reverse with options", async () => [
    ...(await gallery.reverse(Buffer.from("ab"), { more: Buffer.from("c") })),
  ]);
  await report("sort", () => gallery.sort([2, 1, 3], [1, "one"], "down", "1.10"));
  const anything = [1, { a: null }];
  await report("sort with options", () => gallery.sort([2, 1], [1, "one"], "up", "1.10", { anything }));
  await report("paint", () => gallery.paint(PICTURE, "dark-green", "2024-05-06T07:08:09Z"));
  await report("move", () => gallery.move({ picture: PICTURE, to: [4.0, 0.0] }));
  await report("check", () => gallery.check(1));
  await report("check of a wrong value", () => gallery.check(-1));
  await report("find", () => gallery.find(7));
  await report("sleep", () => gallery.sleep());
  await report("nobody", () => nobody.nothing());
  await report("many", () => Promise.all(Array.from({ length: 200 }, (_, n) => gallery.add(n, n))));
}

async function lose(gallery) {
  await gallery.add(1, 2);
  await report("ready", async () => true);
  await report("lost", () => gallery.sleep());
  await once(process.stdin, "data");
  await report("still lost", () => gallery.add(1, 2));
  await once(process.stdin, "data");
  await report("found again", () => gallery.add(1, 2));
  process.stdin.destroy();
}

const [url, mode] = process.argv.slice(2);
const gallery = new TestsGalleryClient(url, mode === "call" ? {} : { timeout: 60_000 });
const nobody = new TestsGalleryNobodyClient(url);
const modes = { call: callAll, lose, add: () => report("add", () => gallery.add(1, 2)) };
await modes[mode](gallery, nobody);
await gallery.close();
await nobody.close();
