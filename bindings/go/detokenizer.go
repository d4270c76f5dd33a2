package dgemma

// #include "shim.h"
import "C"

// A Detokenizer decodes a text token by token: what it gives back is complete characters, and together the text of all
// tokens at once.
type Detokenizer struct {
	h *handle[*C.dgemma_detokenizer]
}

// NewDetokenizer makes a detokenizer at the beginning of a text.
func (m *Model) NewDetokenizer(special Special) (d *Detokenizer, err error) {
	err = m.use(func(model *C.dgemma_model) error {
		var out *C.dgemma_detokenizer
		var text *C.char
		if err := check(C.shim_detokenizer_create(model, special.flags(), &out, &text), &text); err != nil {
			return err
		}
		d = &Detokenizer{newHandle(out, func(d *C.dgemma_detokenizer) { C.dgemma_detokenizer_free(d) })}
		return nil
	})
	return d, err
}

// Push takes the next tokens and gives the text that they complete, which may be none. A call that fails has taken none
// of them.
func (d *Detokenizer) Push(tokens ...Token) (text string, err error) {
	err = d.use(func(d *C.dgemma_detokenizer) (err error) {
		text, err = collectText(8*len(tokens)+16, func(p *C.char, room C.size_t, n *C.size_t, failure **C.char) C.dgemma_status {
			return C.shim_detokenizer_push(d, tokenData(tokens), C.size_t(len(tokens)), p, room, n, failure)
		})
		return err
	})
	return text, err
}

// Finish ends the text: it gives what was held back. The detokenizer is at the beginning of a new text then.
func (d *Detokenizer) Finish() (text string, err error) {
	err = d.use(func(d *C.dgemma_detokenizer) (err error) {
		text, err = collectText(16, func(p *C.char, room C.size_t, n *C.size_t, failure **C.char) C.dgemma_status {
			return C.shim_detokenizer_finish(d, p, room, n, failure)
		})
		return err
	})
	return text, err
}

// Close frees the detokenizer. Always nil.
func (d *Detokenizer) Close() error {
	if d != nil {
		d.h.close()
	}
	return nil
}

func (d *Detokenizer) use(f func(*C.dgemma_detokenizer) error) error {
	if d == nil {
		return ErrClosed
	}
	return use(d.h, f)
}
