package dgemma

import (
	"context"
	"iter"
)

// Generate generates text behind a prompt, in a context of its own. As [Context.Generate] otherwise; errors also:
// [ErrTokenizer], [ErrTemplate].
func (m *Model) Generate(ctx context.Context, prompt string, options *GenerateOptions) (Generation, error) {
	c, err := m.prompted(prompt, options)
	if err != nil {
		return Generation{}, err
	}
	defer c.Close()
	return c.Generate(ctx, options)
}

// Text is [Model.Generate] as a loop; see [Context.Text].
func (m *Model) Text(ctx context.Context, prompt string, options *GenerateOptions) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		c, err := m.prompted(prompt, options)
		if err != nil {
			yield("", err)
			return
		}
		defer c.Close()
		c.Text(ctx, options)(yield)
	}
}

// prompted is a new context with a prompt.
func (m *Model) prompted(prompt string, options *GenerateOptions) (*Context, error) {
	o := copyOf(options)
	flags := ParseSpecial
	switch o.Prompt {
	case PromptChat:
		rendered, err := m.RenderChat([]Message{{Role: "user", Content: prompt}}, nil)
		if err != nil {
			return nil, err
		}
		prompt = rendered
	case PromptRaw:
		flags |= AddBOS
	default:
		return nil, invalid("prompt", "has kind %d, expected PromptChat or PromptRaw", o.Prompt)
	}
	tokens, err := m.Tokenize(prompt, flags)
	if err != nil {
		return nil, err
	}
	c, err := m.NewContext(&ContextOptions{Size: o.ContextSize})
	if err != nil {
		return nil, err
	}
	if err := c.Append(tokens...); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}
