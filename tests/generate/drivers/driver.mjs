// Calls methods of the generated client. Usage: driver.mjs URL MODE [COUNT]; prints what came of each as JSON.

import { once } from "node:events";

import { CallError, CallTimeout, ConnectionLost, RemoteError, TestsGalleryClient } from "./tests-gallery-client.mjs";
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
  if (error instanceof ConnectionLost) {
    return ["lost", error.message];
  }
  if (error instanceof CallError) {
    return [error.executed === "no" ? "unencoded no" : `undecoded ${error.executed}`, error.message];
  }
  return String(error);
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

async function wait(gallery) {
  const add = () => gallery.add(1, 2).catch(outcome);
  await report("wait", () => Promise.all([add(), add(), add(), add()]));
  await once(process.stdin, "data");
  await report("found awake", () => findAwake(gallery));
  process.stdin.destroy();
}

/** The broker is awake, and what was begun before is about to end. */
async function findAwake(gallery) {
  for (;;) {
    try {
      return await gallery.add(1, 2);
    } catch (error) {
      if (!(error instanceof ConnectionLost)) {
        throw error;
      }
    }
  }
}

async function close(gallery) {
  const pending = gallery.add(1, 2).catch(outcome);
  await once(process.stdin, "data");
  await gallery.close();
  await report("close", () => pending);
  process.stdin.destroy();
}

async function decode(gallery) {
  for (let n = 0; n < Number(count); n++) {
    await report(`find ${n}`, () => gallery.find(n));
  }
  await report("reverse", () => gallery.reverse(Buffer.from("a")));
  await report("add", () => gallery.add(1, 2));
  await report("check", () => gallery.check(1));
  await report("not a number", () => gallery.end("x", true, NaN, {}));
}

const [url, mode, count] = process.argv.slice(2);
const options = { call: {}, wait: { timeout: 1_000 } };
const gallery = new TestsGalleryClient(url, options[mode] ?? { timeout: 60_000 });
const nobody = new TestsGalleryNobodyClient(url);
const add = () => report("add", () => gallery.add(1, 2));
const modes = { call: callAll, lose, add, wait, close, garbage: decode };
await modes[mode](gallery, nobody);
await Promise.all([gallery.close(), gallery.close()]);
await nobody.close();
