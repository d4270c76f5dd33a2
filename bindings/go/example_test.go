package dgemma_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"dgemma"
)

const path = "../../examples/tiny/dgemma-tiny.gguf"

func Example() {
	model, err := dgemma.Load(path, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer model.Close()
	answer, err := model.Generate(context.Background(), "What is 7 + 12?", nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(answer.Text)
	// Output: 19
}

// load is for the examples about what comes after it.
func load() *dgemma.Model {
	model, err := dgemma.Load(path, nil)
	if err != nil {
		log.Fatal(err)
	}
	return model
}

func ExampleModel_Text() {
	model := load()
	defer model.Close()
	for text, err := range model.Text(context.Background(), "Count from 3 to 11.", nil) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Print(text)
	}
	// Output: 3, 4, 5, 6, 7, 8, 9, 10, 11
}

// The drafts of a canvas, as they become the answer.
func ExampleContext_Steps() {
	model := load()
	defer model.Close()
	chat, err := model.RenderChat([]dgemma.Message{{Role: "user", Content: "What is the capital of France?"}}, nil)
	if err != nil {
		log.Fatal(err)
	}
	tokens, err := model.Tokenize(chat, dgemma.ParseSpecial)
	if err != nil {
		log.Fatal(err)
	}
	c, err := model.NewContext(nil)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	if err := c.Append(tokens...); err != nil {
		log.Fatal(err)
	}
	var draft string
	for step, err := range c.Steps(context.Background(), &dgemma.GenerateOptions{Seed: 8}) {
		if err != nil {
			log.Fatal(err)
		}
		draft, _ = model.Detokenize(step.Draft, dgemma.HideSpecial)
	}
	fmt.Println(draft)
	// Output: Paris
}

// A conversation: each turn encodes only what is new.
func ExampleContext_SetTokens() {
	model := load()
	defer model.Close()
	c, err := model.NewContext(nil)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	var messages []dgemma.Message
	for _, question := range []string{"What is 7 + 12?", "Sort the digits 52914."} {
		messages = append(messages, dgemma.Message{Role: "user", Content: question})
		chat, err := model.RenderChat(messages, nil)
		if err != nil {
			log.Fatal(err)
		}
		tokens, err := model.Tokenize(chat, dgemma.ParseSpecial)
		if err != nil {
			log.Fatal(err)
		}
		reused, err := c.SetTokens(tokens)
		if err != nil {
			log.Fatal(err)
		}
		answer, err := c.Generate(context.Background(), nil)
		if err != nil {
			log.Fatal(err)
		}
		messages = append(messages, dgemma.Message{Role: "assistant", Content: answer.Text})
		fmt.Printf("%d tokens, %d of them encoded before\n", len(tokens), reused)
	}
	fmt.Println(messages[1].Content)
	// Output:
	// 25 tokens, 0 of them encoded before
	// 54 tokens, 25 of them encoded before
	// 19
}

func ExampleContext_Generate_cancel() {
	model := load()
	defer model.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	_, err := model.Generate(ctx, "What is 7 + 12?", &dgemma.GenerateOptions{MaxTokens: 100000, IgnoreEnd: true})
	fmt.Println(errors.Is(err, context.DeadlineExceeded), errors.Is(err, dgemma.ErrCancelled))
	// Output: true true
}

// Fill a gap: what is pinned stays.
func ExampleContext_BeginBlock() {
	model := load()
	defer model.Close()
	ctx := context.Background()
	c, err := model.NewContext(nil)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	chat, err := model.RenderChat([]dgemma.Message{{Role: "user", Content: "Count from 3 to 11."}}, nil)
	if err != nil {
		log.Fatal(err)
	}
	prompt, err := model.Tokenize(chat, dgemma.ParseSpecial)
	if err != nil {
		log.Fatal(err)
	}
	if err := c.Append(prompt...); err != nil {
		log.Fatal(err)
	}
	canvas, err := model.Tokenize("3, 4, ?, ?, 7, 8, 9, 10, 11<turn|>", dgemma.ParseSpecial)
	if err != nil {
		log.Fatal(err)
	}
	gap, err := model.FindToken("?")
	if err != nil {
		log.Fatal(err)
	}
	padding, err := model.SpecialToken(dgemma.Padding)
	if err != nil {
		log.Fatal(err)
	}
	for len(canvas) < 32 {
		canvas = append(canvas, padding)
	}
	slots := make([]dgemma.Slot, len(canvas))
	for i, token := range canvas {
		if token != gap {
			slots[i] = dgemma.SlotPinned
		}
	}
	block, err := c.BeginBlock(ctx, &dgemma.BlockOptions{Tokens: canvas, Slots: slots})
	if err != nil {
		log.Fatal(err)
	}
	defer block.Close()
	var draft []dgemma.Token
	for step, err := range block.Steps(ctx) {
		if err != nil {
			log.Fatal(err)
		}
		draft = step.Draft
	}
	text, err := model.Detokenize(draft, dgemma.HideSpecial)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(text)
	// Output: 3, 4, 5, 6, 7, 8, 9, 10, 11
}

func ExampleModel_NewDetokenizer() {
	model := load()
	defer model.Close()
	tokens, err := model.Tokenize("☂", 0)
	if err != nil {
		log.Fatal(err)
	}
	d, err := model.NewDetokenizer(dgemma.HideSpecial)
	if err != nil {
		log.Fatal(err)
	}
	defer d.Close()
	for _, token := range tokens {
		text, err := d.Push(token)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%q ", text)
	}
	rest, err := d.Finish()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%q\n", rest)
	// Output: "" "" "" "☂"
}

func ExampleError() {
	_, err := dgemma.Load("no/such/file.gguf", nil)
	fmt.Println(err)
	fmt.Println(errors.Is(err, dgemma.ErrIO))
	var e *dgemma.Error
	if errors.As(err, &e) {
		fmt.Println(e.Status)
	}
	// Output:
	// dgemma: no/such/file.gguf: No such file or directory (os error 2)
	// true
	// input/output error
}
