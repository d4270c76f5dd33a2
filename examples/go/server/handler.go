package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"dgemma"
)

// A handler answers POST requests with a JSON body
//
//	{"prompt": "What is 7 + 12?", "max_tokens": 32, "ignore_end": false, "seed": 1}
//
// (all but the prompt may be left out) by server-sent events whose data are JSON:
//
//	event: draft   the canvas as it would be if it were committed now, a string; replaces the draft before
//	event: text    a committed canvas, a string; replaces the draft for good
//	event: end     {"stop_reason": "end of generation", "tokens": 2, "steps": 2}
//	event: error   what went wrong, a string
//
// When the client goes away, generating stops within the time of a layer.
type handler struct {
	model *dgemma.Model
	// Each generation has a context of its own, which takes memory: no more than this has room for run at once.
	slots chan struct{}
}

func newHandler(model *dgemma.Model, atOnce int) *handler {
	return &handler{model, make(chan struct{}, atOnce)}
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var ask struct {
		Prompt    string `json:"prompt"`
		MaxTokens int    `json:"max_tokens"`
		IgnoreEnd bool   `json:"ignore_end"`
		Seed      uint64 `json:"seed"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20)).Decode(&ask); err != nil {
		http.Error(w, "the body is no request: "+err.Error(), http.StatusBadRequest)
		return
	}
	select {
	case h.slots <- struct{}{}:
		defer func() { <-h.slots }()
	case <-r.Context().Done():
		return
	}
	out := events{w: w, flush: http.NewResponseController(w).Flush}
	options := &dgemma.GenerateOptions{
		MaxTokens: ask.MaxTokens,
		IgnoreEnd: ask.IgnoreEnd,
		Seed:      ask.Seed,
		OnStep: func(step *dgemma.Step) error {
			text, err := h.model.Detokenize(step.Draft, dgemma.HideSpecial)
			if err != nil {
				return err
			}
			return out.send("draft", text)
		},
		OnText: func(text string) error { return out.send("text", text) },
	}
	g, err := h.model.Generate(r.Context(), ask.Prompt, options)
	if err != nil {
		out.fail(err)
		return
	}
	out.send("end", map[string]any{"stop_reason": g.StopReason.String(), "tokens": len(g.Tokens), "steps": g.Steps})
}

// events writes server-sent events.
type events struct {
	w     http.ResponseWriter
	flush func() error
	begun bool
}

func (e *events) send(event string, data any) error {
	if !e.begun {
		e.begun = true
		e.w.Header().Set("Content-Type", "text/event-stream")
		e.w.Header().Set("Cache-Control", "no-store")
	}
	text, err := json.Marshal(data) // has no newlines
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(e.w, "event: %s\ndata: %s\n\n", event, text); err != nil {
		return err
	}
	return e.flush()
}

// fail reports by status as long as nothing was sent.
func (e *events) fail(err error) {
	switch {
	case e.begun:
		e.send("error", err.Error())
	case errors.Is(err, dgemma.ErrInvalidArgument), errors.Is(err, dgemma.ErrContextFull):
		http.Error(e.w, err.Error(), http.StatusBadRequest)
	default:
		http.Error(e.w, err.Error(), http.StatusInternalServerError)
	}
}
