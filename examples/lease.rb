# A lock that is kept while a block runs: Ruby and the gem pg.
require 'pg'
require 'timeout'

class LockRefused < Timeout::Error
  def message = 'refused: somebody else is at it'
end

class LockLost < StandardError
  def message = 'lost: the lock is not ours any more'
end

def now = Process.clock_gettime(Process::CLOCK_MONOTONIC)

# Extend the lease again and again; return when it is lost.
def keep(key, token, ttl)
  deadline, heart = now + ttl, nil
  while (left = deadline - (began = now)).positive?
    pause = ttl / 12.0
    begin
      Timeout.timeout(left) do
        heart = PG.connect unless heart&.status == PG::CONNECTION_OK
        held = heart.exec_params('SELECT distlock.try_extend($1, $2)', [key, token]).getvalue(0, 0)
        deadline = held ? began + ttl : began
        pause = ttl / 3.0
      end
    rescue PG::Error, Timeout::Error
      # no connection: try again, as long as the lease lasts
    end
    sleep((deadline - now).clamp(0, pause))
  end
ensure
  heart&.close
end

# Hold the lock while the block runs; LockLost interrupts the block.
def with_lock(work, key, ttl, wait)
  token = work.exec_params('SELECT distlock.try_acquire($1, ttl => $2, wait => $3)',
                           [key, "#{ttl} s", "#{wait} s"]).getvalue(0, 0)
  raise LockRefused unless token

  worker = Thread.current
  Thread.handle_interrupt(LockLost => :never) do
    keeper = Thread.new { keep(key, token, ttl) || worker.raise(LockLost) }
    Thread.handle_interrupt(LockLost => :immediate) { yield token }
  ensure
    held = keeper.alive?
    keeper.kill
    work.cancel if work.transaction_status == PG::PQTRANS_ACTIVE # what was interrupted
    begin
      work.exec_params('SELECT distlock.try_release($1, $2)', [key, token]) if held
    rescue PG::Error
      # the ttl ends the lease
    end
  end
rescue PG::Error => e
  raise LockLost if e.result&.error_field(PG::PG_DIAG_SQLSTATE) == 'LK001'
  raise
end
