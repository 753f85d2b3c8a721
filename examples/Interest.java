// Pay interest, branch by branch, under a lock: Java 17 and the JDBC driver.
import java.sql.*;
import java.util.concurrent.*;
import org.postgresql.PGConnection;

public class Interest {
    static final String URL = System.getenv().getOrDefault("JDBC_URL", "jdbc:postgresql:bank"),
        PAY = "SELECT pay_interest(branch, rate, distlock.guard('interest', ?)) FROM next_branch()";

    static class LockLostException extends SQLException {
        private static final long serialVersionUID = 1;
        LockLostException(Throwable cause) { super("lost: the lock is not ours any more", cause); }
    }

    static String call(Connection connection, String sql, String... values) throws SQLException {
        try (PreparedStatement statement = connection.prepareStatement(sql)) {
            for (int i = 0; i < values.length; i++) statement.setString(i + 1, values[i]);
            ResultSet result = statement.executeQuery();
            return result.next() ? result.getString(1) : null;
        }
    }

    static class Lease implements AutoCloseable {
        private final ScheduledExecutorService timer = Executors.newScheduledThreadPool(2, run -> {
            Thread thread = new Thread(run);
            thread.setDaemon(true);
            return thread;
        });
        private final Connection work;
        private final String key, token;
        private final long ttl;
        private volatile long deadline;
        private Connection heart;

        Lease(Connection work, String key, int ttl, int wait) throws SQLException, TimeoutException {
            try {
                token = call(work, "SELECT distlock.acquire(?, ?::interval, ?::interval)", key, ttl + " s", wait + " s");
            } catch (SQLException e) {
                if ("55P03".equals(e.getSQLState())) throw new TimeoutException("refused: somebody else is at it");
                throw e;
            }
            this.work = work;
            this.key = key;
            this.ttl = TimeUnit.SECONDS.toNanos(ttl);
            deadline = System.nanoTime() + this.ttl;
            timer.execute(this::extend);
            timer.scheduleWithFixedDelay(this::watch, 100, 100, TimeUnit.MILLISECONDS);
        }

        private void extend() {
            long began = System.nanoTime(), pause = ttl / 12;
            try {
                if (heart == null || heart.isClosed()) heart = DriverManager.getConnection(URL);
                deadline = call(heart, "SELECT distlock.try_extend(?, ?)", key, token) != null ? began + ttl : began;
                pause = ttl / 3;
            } catch (SQLException e) { } // no connection: try again, as long as the lease lasts
            timer.schedule(this::extend, pause, TimeUnit.NANOSECONDS);
        }

        private void watch() {
            try {
                if (isLost()) work.unwrap(PGConnection.class).cancelQuery(); // again and again
            } catch (SQLException e) { }
        }

        boolean isLost() { return System.nanoTime() - deadline >= 0; }

        /** Run a statement; what is under way when the lock is lost is cancelled. */
        String run(String sql) throws SQLException {
            try {
                return call(work, sql, token);
            } catch (SQLException e) {
                throw isLost() || "LK001".equals(e.getSQLState()) ? new LockLostException(e) : e;
            }
        }

        @Override public void close() {
            timer.shutdownNow();
            try {
                if (!isLost()) call(work, "SELECT distlock.try_release(?, ?)", key, token);
            } catch (SQLException e) { } // the ttl ends the lease
        }
    }

    public static void main(String[] args) throws SQLException {
        int ttl = args.length > 0 ? Integer.parseInt(args[0]) : 30, wait = args.length > 1 ? Integer.parseInt(args[1]) : 600;
        try (Connection work = DriverManager.getConnection(URL); Lease lease = new Lease(work, "interest", ttl, wait)) {
            for (String paid; (paid = lease.run(PAY)) != null;) System.out.println(paid);
            System.out.println("done");
        } catch (TimeoutException | LockLostException e) {
            System.err.println(e.getMessage());
            System.exit(1);
        }
    }
}
