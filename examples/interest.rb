# Pay interest, branch by branch, under a lock: Ruby and the gem pg; the lock is in lease.rb.
require_relative 'lease'

PAY = "SELECT pay_interest(branch, rate, distlock.guard('interest', $1)) FROM next_branch()"

$stdout.sync = true
work = PG.connect
begin
  with_lock(work, 'interest', *(ARGV.empty? ? [30, 600] : ARGV.map(&:to_i))) do |token|
    while (paid = work.exec_params(PAY, [token]).values.first)
      puts paid
    end
  end
  puts 'done'
rescue LockRefused, LockLost => e
  abort e.message
end
