// Both sides of a contender with nats.js. The protocol is that of bench/child.py: a JSON object as the argument, and one
// call per line on stdin.
import { connect } from "@nats-io/transport-node";
import { createInterface } from "node:readline";

const given = JSON.parse(process.argv[2]);
const connection = await connect({ servers: given.url });

// Prices orders: decodes each request and encodes each reply.
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

// Keeps inFlight requests in flight for some seconds. Latencies are in tenths of a microsecond.
async function quotes({ in_flight: inFlight, seconds }) {
  const order = JSON.parse(given.body);
  const took = [];
  const begun = performance.now();
  const used = process.cpuUsage();
  const end = begun + seconds * 1000;
  const worker = async () => {
    for (let now = begun; now < end; ) {
      const reply = await connection.request(given.subject, JSON.stringify(order), { timeout: 5000 });
      if (reply.json().order_id !== order.order_id) throw new Error("the reply belongs to another order");
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

const write = (answer) => process.stdout.write(JSON.stringify(answer) + "\n");

if (given.side === "pricing") answer();
await connection.flush();
write({ ready: true });
for await (const line of createInterface({ input: process.stdin })) {
  const call = JSON.parse(line);
  try {
    if (call.do !== "quotes" && call.do !== "flush") throw new Error(`no such call: ${call.do}`);
    write({ result: call.do === "quotes" ? await quotes(call.with) : {} });
  } catch (error) {
    write({ error: String(error.stack) });
  }
}
await connection.close();
