// Server answers questions over HTTP while it denoises: go run ./server MODEL [ADDRESS]. See handler.go for the protocol.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"dgemma"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) < 1 || len(args) > 2 {
		return errors.New("usage: server MODEL [ADDRESS]")
	}
	address := append(args, "127.0.0.1:8080")[1]
	model, err := dgemma.Load(args[0], nil)
	if err != nil {
		return err
	}
	defer model.Close()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("POST /generate", newHandler(model, 4))
	server := &http.Server{Handler: mux, ReadTimeout: 10 * time.Second}
	go func() {
		<-ctx.Done()
		deadline, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if server.Shutdown(deadline) != nil {
			server.Close() // ends what is under way
		}
	}()
	fmt.Printf("listening on http://%s/generate\n", listener.Addr())
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
