// Pay interest, branch by branch, under a lock: Node.js and pg.
'use strict';
const { Pool } = require('pg');

const PAY = "SELECT pay_interest(branch, rate, distlock.guard('interest', $1)) FROM next_branch()";
class LockRefused extends Error {}
class LockLost extends Error {}

// Calls job(token, signal) under the lock; the signal is raised when it is lost.
async function withLock(pool, key, ttl, wait, job) {
  const call = async (sql, ...values) =>
    (await pool.query(`SELECT distlock.${sql} AS result`, values)).rows[0].result;
  const token = await call('try_acquire($1, $2, $3)', key, `${ttl} ms`, `${wait} ms`);
  if (!token) throw new LockRefused('refused: somebody else is at it');
  const lost = new AbortController();
  const lose = () => lost.abort(new LockLost('lost: the lock is not ours any more'));
  let done = false, alarm = setTimeout(lose, ttl), next;
  const keep = async () => {
    const began = performance.now();
    const held = await call('try_extend($1, $2) IS NOT NULL', key, token).catch(() => null);
    if (done) return;
    if (held !== null) {
      clearTimeout(alarm);
      alarm = setTimeout(lose, held ? began + ttl - performance.now() : 0);
    } // without an answer, try again as long as the lease lasts
    next = setTimeout(keep, held === null ? ttl / 12 : ttl / 3);
  };
  keep();
  try {
    return await job(token, lost.signal);
  } catch (error) {
    if (error.code === 'LK001') lose();
    throw lost.signal.aborted ? lost.signal.reason : error;
  } finally {
    done = true;
    clearTimeout(alarm);
    clearTimeout(next);
    // should this fail, the ttl ends the lease
    if (!lost.signal.aborted) await call('try_release($1, $2)', key, token).catch(() => {});
  }
}

async function main(ttl = 30, wait = 600) {
  const pool = new Pool({ connectionTimeoutMillis: 5000 });
  pool.on('error', () => {}); // an idle connection broke; the pool makes another
  const work = await pool.connect();
  work.on('error', () => {}); // shows at the next query
  await withLock(pool, 'interest', ttl * 1000, wait * 1000, async (token, signal) => {
    signal.onabort = () => work.release(true); // ends the query under way, with an error
    for (let paid; (paid = (await work.query(PAY, [token])).rows[0]);) {
      console.log(paid.pay_interest);
    }
  });
  console.log('done');
}

main(...process.argv.slice(2)).then(() => process.exit(), (error) => {
  console.error(error.message);
  process.exit(1);
});
