// Pay interest, branch by branch, under a lock: Go, database/sql and lib/pq; see lease.go.
package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log"
	"os"
	"strings"
	"time"
)

const pay = "SELECT pay_interest(branch, rate, distlock.guard('interest', $1)) FROM next_branch()"

func main() {
	log.SetFlags(0)
	ttl, wait := 30, 600
	fmt.Sscan(strings.Join(os.Args[1:], " "), &ttl, &wait)
	db, err := sql.Open("postgres", "connect_timeout=5")
	if err != nil {
		log.Fatal(err)
	}
	err = withLock(context.Background(), db, "interest", time.Duration(ttl)*time.Second,
		time.Duration(wait)*time.Second, func(ctx context.Context, token string) error {
			for {
				var paid string
				err := db.QueryRowContext(ctx, pay, token).Scan(&paid)
				if errors.Is(err, sql.ErrNoRows) {
					return nil // nothing is left to do
				} else if err != nil {
					return err
				}
				fmt.Println(paid)
			}
		})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("done")
}
