// Pay interest, branch by branch, under a lock: Node.js and pg.
'use strict';
const { setTimeout: sleep } = require('timers/promises');
const { Client } = require('pg');

const PAY = "SELECT pay_interest(branch, rate, distlock.guard('interest', $1)) FROM next_branch()";

class LockRefused extends Error {}
class LockLost extends Error {}

async function connect() {
  const client = new Client({ connectionTimeoutMillis: 5000 });
  client.on('error', () => {}); // what breaks while idle shows at the next query
  await client.connect();
  return client;
}

// Calls job(token, signal) under the lock; the signal is raised when it is lost.
async function withLock(work, key, ttl, wait, job) {
  const acquired = await work.query('SELECT distlock.acquire($1, ttl => $2, wait => $3) AS token',
    [key, `${ttl} ms`, `${wait} ms`]).catch((error) => {
    throw error.code === '55P03' ? new LockRefused('refused: somebody else is at it') : error;
  });
  const { token } = acquired.rows[0];
  const lost = new AbortController(), done = new AbortController();
  const lose = () => lost.abort(new LockLost('lost: the lock is not ours any more'));
  let heart, alarm = setTimeout(lose, ttl);
  (async () => {
    while (!done.signal.aborted) {
      let pause = ttl / 12;
      try {
        const began = performance.now();
        heart ??= await connect();
        const { rows } = await heart.query(
          'SELECT distlock.try_extend($1, $2) AS held', [key, token]);
        if (done.signal.aborted) break;
        clearTimeout(alarm);
        alarm = setTimeout(lose, rows[0].held ? began + ttl - performance.now() : 0);
        pause = ttl / 3;
      } catch { // no connection: another one, as long as the lease lasts
        heart?.end();
        heart = undefined;
      }
      await sleep(pause, null, { signal: done.signal }).catch(() => {});
    }
    heart?.end();
  })();
  try {
    return await job(token, lost.signal);
  } catch (error) {
    if (error.code === 'LK001') lose();
    throw lost.signal.aborted ? lost.signal.reason : error;
  } finally {
    done.abort();
    clearTimeout(alarm);
    heart?.end(); // also if it hangs
    if (!lost.signal.aborted) { // should this fail, the ttl ends the lease
      await work.query('SELECT distlock.try_release($1, $2)', [key, token]).catch(() => {});
    }
  }
}

async function main(ttl = 30, wait = 600) {
  const work = await connect();
  try {
    await withLock(work, 'interest', ttl * 1000, wait * 1000, async (token, signal) => {
      signal.onabort = () => work.end(); // ends the query under way, with an error
      for (;;) {
        const { rows: [paid] } = await work.query(PAY, [token]);
        if (!paid) break;
        console.log(paid.pay_interest);
      }
    });
    console.log('done');
  } finally {
    await work.end();
  }
}

main(...process.argv.slice(2)).catch((error) => {
  console.error(error.message);
  process.exitCode = 1;
});
