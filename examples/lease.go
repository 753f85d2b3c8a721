// A lock that is kept while a function runs: for database/sql and lib/pq.
package main

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/lib/pq"
)

var ErrRefused = errors.New("refused: somebody else is at it")
var ErrLost = errors.New("lost: the lock is not ours any more")

func isCode(err error, code pq.ErrorCode) bool {
	var e *pq.Error
	return errors.As(err, &e) && e.Code == code
}

// withLock calls work under the lock, with a context that ends when the lock is lost.
func withLock(ctx context.Context, db *sql.DB, key string, ttl, wait time.Duration,
	work func(ctx context.Context, token string) error) (err error) {
	var token string
	err = db.QueryRowContext(ctx, "SELECT distlock.acquire($1, make_interval(secs => $2),"+
		" make_interval(secs => $3))", key, ttl.Seconds(), wait.Seconds()).Scan(&token)
	if isCode(err, "55P03") {
		return ErrRefused
	} else if err != nil {
		return err
	}
	held, lose := context.WithCancel(ctx)
	expiry := time.AfterFunc(ttl, lose)
	go func() {
		for held.Err() == nil {
			began, pause := time.Now(), ttl/12
			_, err := db.ExecContext(held, "SELECT distlock.extend($1, $2)", key, token)
			if isCode(err, "LK001") {
				lose()
			} else if err == nil { // after other errors, try again as long as the lease lasts
				expiry.Reset(ttl - time.Since(began))
				pause = ttl / 3
			}
			time.Sleep(pause)
		}
	}()
	defer func() {
		if isCode(err, "LK001") || held.Err() != nil && ctx.Err() == nil {
			err = ErrLost
		} else { // should this fail, the ttl ends the lease
			db.Exec("SELECT distlock.try_release($1, $2)", key, token)
		}
		lose()
	}()
	return work(held, token)
}
