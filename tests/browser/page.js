// Drives the operator's page in a real Chromium and checks it. Started by tests/it/page.rs:
//
//   node page.js CHROMIUM URL FOLDER
//
// FOLDER gets the screenshots. The test prints a line for each step; `REPAIR` asks the caller to
// have the targets accept everything, and a line on standard input says that they do.
"use strict";

const assert = require("node:assert/strict");
const fs = require("node:fs");
const readline = require("node:readline");
const { chromium } = require("playwright-core");

const AXE = fs.readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const [executablePath, base, folder] = process.argv.slice(2);
const OPERATOR = { username: "operator", password: "operator-pa55word" };
const VIEWER = { username: "viewer", password: "viewer-pa55word" };
const LIMIT = 60_000;

/** What went wrong without a step noticing: errors in the console, requests to other hosts. */
const faults = [];

async function open(browser, httpCredentials, options = {}) {
  const context = await browser.newContext({ httpCredentials, ...options });
  context.setDefaultTimeout(LIMIT);
  const page = await context.newPage();
  page.on("console", (message) => message.type() === "error" && faults.push(`console: ${message.text()}`));
  page.on("pageerror", (error) => faults.push(`script: ${error.message}`));
  page.on("request", (request) => {
    if (!request.url().startsWith(`${base}/`)) faults.push(`a request to ${request.url()}`);
  });
  return { context, page };
}

/** Fails if axe finds a serious or critical fault. */
async function accessible(page, what) {
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
  const serious = violations.filter(({ impact }) => impact === "serious" || impact === "critical");
  const told = serious.map(({ id, nodes }) => `${id}: ${nodes[0].html} ${nodes[0].failureSummary}`);
  assert.deepEqual(told, [], `${what} is not accessible`);
}

async function shot(page, name) {
  await page.screenshot({ path: `${folder}/${name}.png`, fullPage: true });
}

async function overview(page) {
  await page.goto(`${base}/`);
  await page.locator("td", { hasText: "critical" }).first().waitFor();
  assert.equal(await page.locator("h1").textContent(), "Needs attention");
  assert.match(await page.locator(".reasons").textContent(), /target-1.*takes nothing.*503/s);
  assert.ok((await page.locator("svg.flow path").count()) >= 3, "lines from the source to its destinations");
  await accessible(page, "the overview");
  // An update arrives, and changes the open screen in place.
  const row = page.locator("tr", { has: page.getByRole("link", { name: "vc", exact: true }) }).first();
  const events = row.locator("td").nth(2);
  const [before, element] = [await events.textContent(), await events.elementHandle()];
  await page.waitForFunction(([cell, text]) => cell.textContent !== text, [element, before]);
  assert.match(await page.locator("#updates").textContent(), /^live, as of/);
  // Updates can be paused.
  await page.getByRole("button", { name: "Pause updates" }).click();
  assert.match(await page.locator("#updates").textContent(), /^paused/);
}

async function destination(page) {
  await page.getByRole("link", { name: "target-1" }).last().click();
  await page.locator("h1", { hasText: "Destination target-1" }).waitFor();
  assert.match(await page.locator(".failures").textContent(), /503/);
  await page.locator("svg.chart polyline").first().waitFor({ state: "attached" });
  await accessible(page, "a destination");
}

async function source(page) {
  await page.goto(`${base}/source?name=vc`);
  await page.locator("svg.chart polyline").first().waitFor({ state: "attached" });
  assert.ok((await page.locator("tbody tr").count()) > 3, "types of this source");
  await accessible(page, "a source");
}

async function events(page) {
  await page.goto(`${base}/events`);
  const subject = (await page.locator("tbody th summary").first().textContent()).trim();
  await page.locator("tbody th summary").first().click();
  assert.match(await page.locator("tbody th pre").first().textContent(), /"specversion": "1.0"/);
  await page.getByRole("textbox").fill(JSON.stringify({ subject: [subject] }));
  await page.getByRole("button", { name: "Try it" }).click();
  const result = page.locator("#result");
  await result.locator(".verdict.ok").waitFor();
  for (const text of await result.locator("summary").allTextContents()) {
    assert.ok(text.trim().startsWith(subject), `${text} is no ${subject}`);
  }
  await accessible(page, "event types");
  await shot(page, "events");
  await page.getByRole("textbox").fill('{"subject": ["NoSuchEvent"]}');
  await page.getByRole("button", { name: "Try it" }).click();
  assert.match(await result.textContent(), /0 of \d+.*allows/s);
  await page.getByRole("textbox").fill('{"subject": "text"}');
  await page.getByRole("button", { name: "Try it" }).click();
  await result.locator(".verdict.critical").waitFor();
}

/** Live events: a pattern filters them, and an opened one stays open while others come. */
async function tap(page) {
  await page.goto(`${base}/tap`);
  const rows = page.locator("main tbody tr");
  await rows.nth(2).waitFor();
  const key = await rows.first().getAttribute("data-key");
  const opened = page.locator(`tr[data-key="${key}"]`);
  await opened.locator("summary").click();
  await page.waitForFunction((key) => document.querySelector("main tbody tr").dataset.key !== key, key);
  assert.match(await opened.locator("pre").innerText(), /"specversion": "1.0"/, "it is still open");
  assert.equal(await page.locator("details[open]").count(), 1, "no other one has opened");
  await accessible(page, "live events");
  await shot(page, "live-events");
  const subject = "VmPoweredOffEvent";
  await page.getByRole("textbox", { name: /pattern/ }).fill(JSON.stringify({ subject: [subject] }));
  await page.getByRole("button", { name: "Show", exact: true }).click();
  await rows.nth(1).waitFor();
  for (const text of await rows.locator("summary").allTextContents()) {
    assert.ok(text.startsWith(subject), `${text} is no ${subject}`);
  }
  await page.goto(`${base}/tap?to=target-1`);
  await page.locator("td .badge.critical").first().waitFor();
  assert.match(await rows.first().textContent(), /503/);
  await page.goto(`${base}/tap?pattern=%7B`);
  assert.match(await page.locator(".verdict.critical").textContent(), /no JSON/);
}

async function letters(page, answers) {
  await page.goto(`${base}/dead-letters`);
  await accessible(page, "the dead letters");
  await page.locator("tbody a", { hasText: "target-2" }).first().click();
  await page.getByRole("button", { name: "Replay" }).waitFor();
  const group = page.url();
  await accessible(page, "a group of dead letters");
  await shot(page, "dead-letters");
  // The number must be typed, and must be right.
  await page.getByLabel(/to drop/).fill("123456");
  await page.getByRole("button", { name: "Drop" }).click();
  assert.match(await page.locator(".verdict").first().textContent(), /Nothing has changed/);
  // One letter, with its event.
  await page.locator("#letters ~ .scroll tbody a").first().click();
  assert.match(await page.locator("pre").textContent(), /"specversion": "1.0"/);
  // The target is repaired, and takes the letters. The first try may come too early: another letter
  // has joined the group, or the target is only probed yet.
  console.log("REPAIR");
  await answers.next();
  const end = Date.now() + LIMIT;
  for (let told = ""; !/^Replayed \d+; the targets accepted all/.test(told); ) {
    assert.ok(Date.now() < end, told);
    await page.goto(group);
    const label = await page.locator("label", { hasText: "to replay" }).textContent();
    await page.getByLabel(/to replay/).fill(label.match(/Type (\d+)/)[1]);
    await page.getByRole("button", { name: "Replay" }).click();
    told = (await page.locator(".verdict").first().textContent()).trim();
    console.log(told);
  }
}

/** A range is counted, and then goes to one destination again. */
async function replay(page) {
  await page.goto(`${base}/replay`);
  await accessible(page, "positions and replay");
  const form = page.locator("form.select");
  await form.getByLabel(/From/).fill("beginning");
  await form.getByLabel("Destination").selectOption("target-0");
  await form.getByRole("button", { name: /Count/ }).click();
  const label = page.locator("label", { hasText: "to deliver them again" });
  await label.waitFor();
  const [, count] = (await label.textContent()).match(/Type (\d+)/);
  assert.ok(Number(count) >= 300, `${count} events`);
  assert.match(await page.locator(".verdict").first().textContent(), /would go to target-0/);
  await accessible(page, "a counted range");
  await shot(page, "replay");
  await page.getByLabel(/to deliver them again/).fill("1");
  await page.getByRole("button", { name: "Replay" }).click();
  await page.locator(".verdict.critical", { hasText: "does not match" }).waitFor();
  await page.getByLabel(/to deliver them again/).fill(count);
  await page.getByRole("button", { name: "Replay" }).click();
  await page.locator(".verdict.ok", { hasText: "went to target-0" }).waitFor();
  assert.ok((await page.locator(".verdict.ok").textContent()).startsWith(`${count} events of vc`));
  // A wrong time is told.
  await form.getByLabel(/From/).fill("yesterday");
  await form.getByRole("button", { name: /Count/ }).click();
  await page.locator(".verdict.critical", { hasText: /write a time such as/ }).waitFor();
}

/** A viewer sees the same and changes nothing. */
async function viewer(browser) {
  const { context, page } = await open(browser, VIEWER);
  await page.goto(`${base}/dead-letters?destination=target-1`);
  assert.equal(await page.locator("form[method=post]").count(), 0);
  const form = { token: "0".repeat(32), destination: "target-1", count: "1" };
  for (const path of ["/dead-letters/drop", "/replay/count", "/replay/start", "/replay/stop"]) {
    const answer = await context.request.post(`${base}${path}`, { form, headers: { origin: base } });
    assert.equal(answer.status(), 403, path);
  }
  await context.close();
}

/** The looks: wide and narrow, light and dark. */
async function looks(browser) {
  for (const [name, options] of [
    ["overview", { viewport: { width: 1280, height: 900 } }],
    ["overview-dark", { viewport: { width: 1280, height: 900 }, colorScheme: "dark" }],
    ["overview-phone", { viewport: { width: 390, height: 800 }, isMobile: true }],
  ]) {
    const { context, page } = await open(browser, OPERATOR, options);
    await page.goto(`${base}/`);
    await page.locator("#updates", { hasText: "live" }).waitFor();
    const overflow = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
    assert.ok(overflow <= 0, `${name} is ${overflow} pixels too wide`);
    await accessible(page, name);
    await shot(page, name);
    await page.goto(`${base}/destination?name=target-1`);
    await page.locator("svg.chart polyline").first().waitFor({ state: "attached" });
    await accessible(page, `${name}, destination`);
    await shot(page, name.replace("overview", "destination"));
    await context.close();
  }
}

async function main() {
  const answers = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();
  const args = ["--no-sandbox", "--disable-background-networking", "--disable-component-update"];
  const browser = await chromium.launch({ executablePath, args });
  try {
    const { page } = await open(browser, OPERATOR, { viewport: { width: 1280, height: 900 } });
    for (const [name, step] of Object.entries({ overview, destination, source, events, tap })) {
      await step(page);
      console.log(`ok ${name}`);
    }
    await looks(browser);
    await letters(page, answers);
    await replay(page);
    await viewer(browser);
    assert.deepEqual(faults, [], "faults in the browser");
    console.log("DONE");
  } finally {
    await browser.close();
  }
}

main().then(
  () => process.exit(0),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
