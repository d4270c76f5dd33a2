package dgemma

// #include <stdlib.h>
// #include "shim.h"
import "C"

import (
	"encoding/json"
	"unicode/utf8"
	"unsafe"
)

// A Message of a conversation, as chat templates in the Hugging Face form know it. For templates that expect more there is
// [Model.RenderChatJSON].
type Message struct {
	// Role is "system", "user", "assistant" or "tool".
	Role    string `json:"role"`
	Content string `json:"content"`
	// Name of the tool whose result the message is.
	Name string `json:"name,omitempty"`
	// ToolCallID of the call whose result the message is.
	ToolCallID string `json:"tool_call_id,omitempty"`
	// ToolCalls that an assistant's message asks for.
	ToolCalls []ToolCall `json:"tool_calls,omitempty"`
}

// A ToolCall is a call of a function that the model asks for.
type ToolCall struct {
	ID       string       `json:"id,omitempty"`
	Type     string       `json:"type,omitempty"`
	Function FunctionCall `json:"function"`
}

// A FunctionCall is what a ToolCall calls. Arguments are a JSON object.
type FunctionCall struct {
	Name      string          `json:"name"`
	Arguments json.RawMessage `json:"arguments,omitempty"`
}

// A Tool that the model may call.
type Tool struct {
	// Type is "function".
	Type     string   `json:"type"`
	Function Function `json:"function"`
}

// A Function as a Tool describes it. Parameters are a JSON schema.
type Function struct {
	Name        string          `json:"name"`
	Description string          `json:"description,omitempty"`
	Parameters  json.RawMessage `json:"parameters,omitempty"`
}

// ChatOptions say how to render a conversation.
type ChatOptions struct {
	// Tools that the model may call.
	Tools []Tool
	// Closed ends after the last message, not where the model's answer begins.
	Closed bool
}

// RenderChat renders a conversation through the model's chat template. Tokenize the result with [ParseSpecial] and without
// [AddBOS]: the template writes the beginning itself. Errors: [ErrInvalidArgument], [ErrTemplate] (broken, or refuses the
// messages).
func (m *Model) RenderChat(messages []Message, options *ChatOptions) (string, error) {
	if options == nil {
		options = new(ChatOptions)
	}
	if messages == nil {
		messages = []Message{}
	}
	for i, message := range messages {
		// JSON would replace what is wrong in silence.
		if !utf8.ValidString(message.Role) || !utf8.ValidString(message.Content) {
			return "", invalid("messages", "has a text that is not UTF-8 at %d", i)
		}
	}
	list, err := json.Marshal(messages)
	if err != nil {
		return "", invalid("messages", "%v", err)
	}
	var tools []byte
	if len(options.Tools) > 0 {
		if tools, err = json.Marshal(options.Tools); err != nil {
			return "", invalid("tools", "%v", err)
		}
	}
	return m.RenderChatJSON(list, tools, options)
}

// RenderChatJSON is [Model.RenderChat] for messages and tools as JSON lists, whatever they hold and in whatever order their
// keys are; a template may show both. Tools may be nil; those of options are not used.
func (m *Model) RenderChatJSON(messages, tools []byte, options *ChatOptions) (text string, err error) {
	cMessages, err := cText("messages", string(messages))
	if err != nil {
		return "", err
	}
	defer C.free(unsafe.Pointer(cMessages))
	var cTools *C.char
	if tools != nil {
		if cTools, err = cText("tools", string(tools)); err != nil {
			return "", err
		}
		defer C.free(unsafe.Pointer(cTools))
	}
	flags := C.uint32_t(C.DGEMMA_CHAT_ADD_GENERATION_PROMPT)
	if options != nil && options.Closed {
		flags = 0
	}
	err = m.use(func(model *C.dgemma_model) (err error) {
		text, err = collectText(2*len(messages)+512, func(p *C.char, room C.size_t, n *C.size_t, failure **C.char) C.dgemma_status {
			return C.shim_chat_render(model, cMessages, cTools, flags, p, room, n, failure)
		})
		return err
	})
	return text, err
}
