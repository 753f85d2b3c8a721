// Pay interest, branch by branch, under a lock: JDBC; the lock is in Lease.java.
import java.sql.*;

public class Interest {
    static final String PAY =
        "SELECT pay_interest(branch, rate, distlock.guard(?, ?)) FROM next_branch()";

    public static void main(String[] args) throws SQLException {
        String url = args[0];
        int ttl = Integer.parseInt(args[1]), wait = Integer.parseInt(args[2]);
        try (Connection work = DriverManager.getConnection(url);
             Lease lease = new Lease(work, url, "interest", 1000 * ttl, 1000 * wait)) {
            for (String paid; (paid = lease.run(PAY)) != null;) System.out.println(paid);
            System.out.println("done");
        } catch (SQLTimeoutException | LockLostException e) {
            System.err.println(e.getMessage());
            System.exit(1);
        }
    }
}
