// Both sides in JavaScript by nats.js, driven as bench/child.py is: one JSON object as argument, calls as lines on stdin.
import { connect } from "@nats-io/transport-node";
import { createInterface } from "node:readline";

const given = JSON.parse(process.argv[2]);
const connection = await connect({ servers: given.url });

// Prices orders, each decoded and encoded.
function answer() {
  connection.subscribe(given.subject, {
    queue: "q",
    callback: (error, message) => {
      if (error) throw error;
      const request = message.json();
      let total = 0;
      for (const line of request.lines) total += line.quantity * line.price;
      message.respond(JSON.stringify({ order_id: request.order_id, total }));
    },
  });
}

// Keeps so many requests under way; latencies are in tenths of a microsecond.
async function quotes({ in_flight: inFlight, seconds }) {
  const order = JSON.parse(given.body);
  const took = [];
  const begun = performance.now();
  const used = process.cpuUsage();
  const end = begun + seconds * 1000;
  const worker = async () => {
    for (let now = begun; now < end; ) {
      const reply = await connection.request(given.subject, JSON.stringify(order), { timeout: 5000 });
      if (reply.json().order_id !== order.order_id) throw new Error("the reply is to another order");
      const done = performance.now();
      took.push((done - now) * 1e4);
      now = done;
    }
  };
  await Promise.all(Array.from({ length: inFlight }, worker));
  const cpu = process.cpuUsage(used);
  return {
    count: took.length,
    seconds: (performance.now() - begun) / 1000,
    cpu_us: cpu.user + cpu.system,
    latencies: Buffer.from(Uint32Array.from(took).buffer).toString("base64"),
  };
}

const say = (found) => process.stdout.write(JSON.stringify(found) + "\n");

if (given.side === "pricing") answer();
await connection.flush();
say({ ready: true });
for await (const line of createInterface({ input: process.stdin })) {
  const call = JSON.parse(line);
  try {
    if (call.do !== "quotes" && call.do !== "flush") throw new Error(`no such call: ${call.do}`);
    say({ result: call.do === "quotes" ? await quotes(call.with) : {} });
  } catch (error) {
    say({ error: String(error.stack) });
  }
}
await connection.close();
