// Package dgemma runs DiffusionGemma from GGUF files, through libdgemma.
//
//	model, err := dgemma.Load("model.gguf", nil)
//	if err != nil {
//		return err
//	}
//	defer model.Close()
//	answer, err := model.Generate(ctx, "What is 7 + 12?", nil)
//	if err != nil {
//		return err
//	}
//	fmt.Println(answer.Text)
//
// A [Model] is loaded once and used by any number of goroutines. A [Context] is a sequence of tokens being read and
// written; it generates with [Context.Generate], or in a loop over [Context.Text] or [Context.Steps]. A [Block] is one
// canvas being denoised, step by step, in the program's hands.
//
// # Options
//
// Options travel as a pointer to a struct whose zero value, like nil, means the defaults.
//
// # Stopping
//
// Calls that compute take a [context.Context] and stop within the time of one layer when it is done. Their error then is
// both [context.Canceled] (or what else ended it, its cause included) and [ErrCancelled] to [errors.Is]. Callbacks stop
// a call by an error, which the call returns; [Stop] stops without one.
//
// # Goroutines
//
// A Model may be used by several goroutines at once. A Context and its Blocks do one call at a time: others, and calls
// from the callbacks of a running one, are answered with [ErrBusy] at once. A [Detokenizer] does one call at a time as
// well. Contexts over one model are independent and share its threads. Callbacks run on the goroutine that called, outside
// of C: they may panic and end their goroutine.
//
// # Closing
//
// What the package makes is closed by its Close method, in any order: children keep what they need of their parents.
// Close may come while a call is running: the call goes on to its end and what it needs is freed then. Closing twice does
// nothing. A method of a closed object answers with [ErrClosed]. What is forgotten instead is closed by the garbage
// collector some time, which does not know how much memory waits for it: call Close.
//
// # Errors
//
// A failure of the library is an [*Error], with its [Status] and one line of text that names the file, tensor, key or
// argument and says what was expected. It is the sentinel of its status to errors.Is, for instance [ErrContextFull].
package dgemma
