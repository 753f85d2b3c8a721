// A lock that is kept until close(), and statements with its key and token: JDBC, Java 11.
import java.sql.*;
import java.util.concurrent.*;
import org.postgresql.PGConnection;

class Lease implements AutoCloseable {
    private final ScheduledExecutorService timer = Executors.newScheduledThreadPool(2);
    private final Connection work;
    private final String[] lock; // key and token
    private volatile long deadline;

    /** Waits for the lock, and keeps it by other connections to url; times in milliseconds. */
    Lease(Connection work, String url, String key, int ttl, int wait) throws SQLException {
        this.work = work;
        lock = new String[] {key, call(work, "SELECT distlock.try_acquire(?, ?::interval,"
            + " ?::interval)", key, ttl + " ms", wait + " ms")};
        if (lock[1] == null) throw new SQLTimeoutException("refused: somebody else is at it");
        deadline = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(ttl);
        timer.scheduleWithFixedDelay(() -> keep(url, ttl), 0, ttl / 12, TimeUnit.MILLISECONDS);
        timer.scheduleWithFixedDelay(this::watch, 100, 100, TimeUnit.MILLISECONDS);
    }

    private void keep(String url, int ttl) {
        try (Connection heart = DriverManager.getConnection(url)) {
            for (heart.setNetworkTimeout(Runnable::run, ttl);; Thread.sleep(ttl / 3)) {
                long began = System.nanoTime();
                boolean held = call(heart, "SELECT distlock.try_extend(?, ?)", lock) != null;
                deadline = held ? began + TimeUnit.MILLISECONDS.toNanos(ttl) : began;
            }
        } catch (SQLException | InterruptedException e) { } // again, as long as the lease lasts
    }

    private synchronized void watch() {
        try { // again and again: there may be nothing to cancel just now
            if (isLost() && !timer.isShutdown()) work.unwrap(PGConnection.class).cancelQuery();
        } catch (SQLException e) { }
    }

    static String call(Connection connection, String sql, String... values) throws SQLException {
        try (PreparedStatement statement = connection.prepareStatement(sql)) {
            for (int i = 0; i < values.length; i++) statement.setString(i + 1, values[i]);
            ResultSet result = statement.executeQuery();
            return result.next() ? result.getString(1) : null;
        }
    }

    String run(String sql) throws SQLException {
        try {
            return call(work, sql, lock);
        } catch (SQLException e) {
            throw isLost() || "LK001".equals(e.getSQLState()) ? new LockLostException(e) : e;
        }
    }

    private boolean isLost() { return System.nanoTime() - deadline >= 0; }
    @Override public synchronized void close() throws SQLException {
        timer.shutdownNow();
        if (!isLost()) run("SELECT distlock.try_release(?, ?)"); // if it fails, the ttl ends it
    }
}
