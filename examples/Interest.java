// Pay interest, branch by branch, under a lock: Java 11 or later and PostgreSQL's JDBC driver.
import java.sql.*;
import java.util.concurrent.*;
import org.postgresql.PGConnection;

public class Interest {
    static final String PAY =
        "SELECT pay_interest(branch, rate, distlock.guard('interest', ?)) FROM next_branch()";

    static class LockLostException extends SQLException {
        LockLostException(Throwable cause) { super("lost: the lock is not ours any more", cause); }
    }

    static String call(Connection connection, String sql, String... values) throws SQLException {
        try (PreparedStatement statement = connection.prepareStatement(sql)) {
            for (int i = 0; i < values.length; i++) statement.setString(i + 1, values[i]);
            ResultSet result = statement.executeQuery();
            return result.next() ? result.getString(1) : null;
        }
    }

    /** A lock that is kept until close(); what runs under it when it is lost is cancelled. */
    static class Lease implements AutoCloseable {
        private final ScheduledExecutorService timer = Executors.newScheduledThreadPool(2);
        private final String url, key, token;
        private final long ttl;
        private final Connection work;
        private volatile Connection heart;
        private volatile long deadline;

        Lease(String url, String key, int ttl, int wait) throws SQLException, TimeoutException {
            work = DriverManager.getConnection(url);
            try {
                token = call(work, "SELECT distlock.acquire(?, ttl => ?::interval, wait => ?::interval)",
                    key, ttl + " s", wait + " s");
            } catch (SQLException e) {
                work.close();
                if (!"55P03".equals(e.getSQLState())) throw e;
                throw new TimeoutException("refused: somebody else is at it");
            }
            this.url = url;
            this.key = key;
            this.ttl = TimeUnit.SECONDS.toNanos(ttl);
            deadline = System.nanoTime() + this.ttl;
            timer.execute(this::extend);
            timer.scheduleWithFixedDelay(this::watch, 100, 100, TimeUnit.MILLISECONDS);
        }

        private void extend() {
            long began = System.nanoTime(), pause = ttl / 12;
            try {
                if (heart == null || heart.isClosed()) heart = DriverManager.getConnection(url);
                boolean held = call(heart, "SELECT distlock.try_extend(?, ?)", key, token) != null;
                deadline = held ? began + ttl : began;
                pause = ttl / 3;
            } catch (SQLException e) { } // no connection: try again, as long as the lease lasts
            timer.schedule(this::extend, pause, TimeUnit.NANOSECONDS);
        }

        private void watch() {
            try { // again and again: there may be nothing to cancel just now
                if (isLost()) work.unwrap(PGConnection.class).cancelQuery();
            } catch (SQLException e) { }
        }

        boolean isLost() { return System.nanoTime() - deadline >= 0; }

        String run(String sql) throws SQLException {
            try {
                return call(work, sql, token);
            } catch (SQLException e) {
                throw isLost() || "LK001".equals(e.getSQLState()) ? new LockLostException(e) : e;
            }
        }

        @Override public void close() throws SQLException {
            timer.shutdownNow();
            try (Connection closed = work) { // should the release fail, the ttl ends the lease
                if (!isLost()) call(closed, "SELECT distlock.try_release(?, ?)", key, token);
            } finally {
                if (heart != null) heart.abort(Runnable::run); // it may hang
            }
        }
    }

    public static void main(String[] args) throws SQLException {
        int ttl = Integer.parseInt(args[1]), wait = Integer.parseInt(args[2]);
        try (Lease lease = new Lease(args[0], "interest", ttl, wait)) {
            for (String paid; (paid = lease.run(PAY)) != null;) System.out.println(paid);
            System.out.println("done");
        } catch (TimeoutException | LockLostException e) {
            System.err.println(e.getMessage());
            System.exit(1);
        }
    }
}
