package dgemma

import (
	"context"
	"errors"
	"iter"
)

// Text is [Context.Generate] as a loop over the committed text, a canvas at a time:
//
//	for text, err := range c.Text(ctx, nil) {
//		if err != nil {
//			return err
//		}
//		fmt.Print(text)
//	}
//
// An error comes last, with no text. Leaving the loop stops generating. Each loop generates anew. The callbacks of the
// options are called, too.
func (c *Context) Text(ctx context.Context, options *GenerateOptions) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		o := copyOf(options)
		also := o.OnText
		o.OnText = func(text string) error {
			if also != nil {
				if err := also(text); err != nil {
					return err
				}
			}
			return goOn(yield(text, nil))
		}
		if _, err := c.Generate(ctx, &o); err != nil && err != errLeft {
			yield("", err)
		}
	}
}

// Steps is [Context.Generate] as a loop over the denoising steps, with the draft of each: as [Context.Text] otherwise.
func (c *Context) Steps(ctx context.Context, options *GenerateOptions) iter.Seq2[*Step, error] {
	return func(yield func(*Step, error) bool) {
		o := copyOf(options)
		also := o.OnStep
		o.OnStep = func(step *Step) error {
			if also != nil {
				if err := also(step); err != nil {
					return err
				}
			}
			return goOn(yield(step, nil))
		}
		if _, err := c.Generate(ctx, &o); err != nil && err != errLeft {
			yield(nil, err)
		}
	}
}

// errLeft says that the program has left a loop.
var errLeft = errors.New("dgemma: loop left")

func goOn(more bool) error {
	if more {
		return nil
	}
	return errLeft
}

func copyOf(options *GenerateOptions) GenerateOptions {
	if options == nil {
		return GenerateOptions{}
	}
	return *options
}
