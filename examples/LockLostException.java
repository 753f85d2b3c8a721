// Somebody else can have the lock by now; what was running under it has been cancelled.
public class LockLostException extends java.sql.SQLException {
    private static final long serialVersionUID = 1L;

    LockLostException(Throwable cause) {
        super("lost: the lock is not ours any more", cause);
    }
}
