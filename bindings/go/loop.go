package dgemma

import (
	"context"
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
		o, left := copyOf(options), false
		also := o.OnText
		o.OnText = func(text string) error {
			if also != nil {
				if err := also(text); err != nil {
					return err
				}
			}
			return goOn(yield(text, nil), &left)
		}
		if _, err := c.Generate(ctx, &o); err != nil && !left {
			yield("", err)
		}
	}
}

// Steps is [Context.Generate] as a loop over the denoising steps, with the draft of each: as [Context.Text] otherwise.
func (c *Context) Steps(ctx context.Context, options *GenerateOptions) iter.Seq2[*Step, error] {
	return func(yield func(*Step, error) bool) {
		o, left := copyOf(options), false
		also := o.OnStep
		o.OnStep = func(step *Step) error {
			if also != nil {
				if err := also(step); err != nil {
					return err
				}
			}
			return goOn(yield(step, nil), &left)
		}
		if _, err := c.Generate(ctx, &o); err != nil && !left {
			yield(nil, err)
		}
	}
}

// goOn is a callback's answer to what yield says: a program that has left the loop hears no more, nor why it ended.
func goOn(more bool, left *bool) error {
	if more {
		return nil
	}
	*left = true
	return Stop
}

func copyOf(options *GenerateOptions) GenerateOptions {
	if options == nil {
		return GenerateOptions{}
	}
	return *options
}
