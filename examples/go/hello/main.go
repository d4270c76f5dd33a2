// Hello answers a question: go run ./hello MODEL PROMPT.
package main

import (
	"context"
	"fmt"
	"os"

	"dgemma"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	if len(os.Args) != 3 {
		return fmt.Errorf("usage: hello MODEL PROMPT")
	}
	model, err := dgemma.Load(os.Args[1], nil)
	if err != nil {
		return err
	}
	defer model.Close()
	for text, err := range model.Text(context.Background(), os.Args[2], nil) {
		if err != nil {
			return err
		}
		fmt.Print(text)
	}
	fmt.Println()
	return nil
}
