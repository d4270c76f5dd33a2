package dgemma

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestTokenize(t *testing.T) {
	for _, text := range []string{"", "What is 7 + 12?", "Écris 雨 ☂", "a\x00b", strings.Repeat("long ", 3000)} {
		tokens := must[[]Token](t)(tiny().Tokenize(text, 0))
		if back := must[string](t)(tiny().Detokenize(tokens, HideSpecial)); back != text {
			t.Errorf("%q came back as %q", text, back)
		}
	}
	bos := must[Token](t)(tiny().SpecialToken(BOS))
	if tokens := must[[]Token](t)(tiny().Tokenize("a", AddBOS)); len(tokens) != 2 || tokens[0] != bos {
		t.Errorf("with BOS: %v", tokens)
	}
	text := "<bos><|turn>user"
	plain, parsed := must[[]Token](t)(tiny().Tokenize(text, 0)), must[[]Token](t)(tiny().Tokenize(text, ParseSpecial))
	if len(parsed) >= len(plain) || parsed[0] != bos {
		t.Errorf("parsed %v, plain %v", parsed, plain)
	}
	if s := must[string](t)(tiny().Detokenize(parsed, ShowSpecial)); s != text {
		t.Errorf("shown: %q", s)
	}
	if s := must[string](t)(tiny().Detokenize(parsed, HideSpecial)); s != "user" {
		t.Errorf("hidden: %q", s)
	}
}

func TestTokens(t *testing.T) {
	model := tiny()
	end := must[Token](t)(model.FindToken("<turn|>"))
	if !model.IsEnd(end) || model.IsEnd(must[Token](t)(model.SpecialToken(BOS))) || model.IsEnd(1<<30) {
		t.Error("IsEnd")
	}
	if s := must[string](t)(model.Piece(end)); s != "<turn|>" {
		t.Errorf("piece %q", s)
	}
	if a := must[TokenAttributes](t)(model.Attributes(end)); a != TokenControl|TokenEnd {
		t.Errorf("attributes %b", a)
	}
	if a := must[TokenAttributes](t)(model.Attributes(must[Token](t)(model.FindToken("<0x41>")))); a != TokenByte {
		t.Errorf("attributes of a byte %b", a)
	}
	for _, role := range []Role{BOS, EOS, Unknown, Padding} {
		if _, err := model.SpecialToken(role); err != nil {
			t.Errorf("%v: %v", role, err)
		}
	}
	if _, err := model.SpecialToken(Mask); err != nil && !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	if Mask.String() != "Mask" || Role(7).String() != "Role(7)" {
		t.Error("names of roles")
	}
	if _, err := model.FindToken("no such token"); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
}

func TestVocabularyMisuse(t *testing.T) {
	model := tiny()
	for name, call := range map[string]func() error{
		"text":  func() error { _, err := model.Tokenize("\xff", 0); return err },
		"flags": func() error { _, err := model.Tokenize("", 1<<9); return err },
		"id":    func() error { _, err := model.Detokenize([]Token{512}, HideSpecial); return err },
		"piece": func() error { _, err := model.Piece(512); return err },
		"kind":  func() error { _, err := model.Attributes(512); return err },
		"find":  func() error { _, err := model.FindToken("\xff"); return err },
		"role":  func() error { _, err := model.SpecialToken(99); return err },
	} {
		if err := call(); !errors.Is(err, ErrInvalidArgument) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDetokenizer(t *testing.T) {
	text := "Écris 雨 ☂!"
	tokens := must[[]Token](t)(tiny().Tokenize(text, 0))
	d := must[*Detokenizer](t)(tiny().NewDetokenizer(HideSpecial))
	defer d.Close()
	for range 2 { // Finish begins anew
		var parts []string
		for _, token := range tokens {
			parts = append(parts, must[string](t)(d.Push(token)))
		}
		parts = append(parts, must[string](t)(d.Finish()))
		if s := strings.Join(parts, ""); s != text || !slices.Contains(parts, "雨 ") {
			t.Errorf("parts %q", parts)
		}
	}
	if s := must[string](t)(d.Push()); s != "" {
		t.Errorf("nothing gave %q", s)
	}
	// The beginning of a character is held back, and given up at the end.
	if s := must[string](t)(d.Push(tokens[0])); s != "" {
		t.Errorf("half a character gave %q", s)
	}
	if _, err := d.Push(512); !errors.Is(err, ErrInvalidArgument) {
		t.Error(err)
	}
	if s := must[string](t)(d.Finish()); s != "\uFFFD" {
		t.Errorf("half a character ended as %q", s)
	}
}

func TestRenderChat(t *testing.T) {
	messages := []Message{{Role: "user", Content: "<b> & \"c\" 雨"}}
	open := must[string](t)(tiny().RenderChat(messages, nil))
	if open != "<bos><|turn>user\n<b> & \"c\" 雨<turn|>\n<|turn>model\n" {
		t.Errorf("rendered %q", open)
	}
	closed := must[string](t)(tiny().RenderChat(messages, &ChatOptions{Closed: true}))
	if closed+"<|turn>model\n" != open {
		t.Errorf("closed %q", closed)
	}
	long := []Message{{Role: "user", Content: strings.Repeat("<", 5000)}}
	if s := must[string](t)(tiny().RenderChat(long, nil)); len(s) < 5000 {
		t.Errorf("long text: %d bytes", len(s))
	}
}

// withTemplate is the built-in model with another chat template.
func withTemplate(t *testing.T, template string) *Model {
	own := must[string](t)(tiny().Metadata("tokenizer.chat_template"))
	template += "{#" + strings.Repeat(" ", len(own)-len(template)-4) + "#}"
	file := must[[]byte](t)(os.ReadFile(tinyPath))
	path := filepath.Join(t.TempDir(), "template.gguf")
	if err := os.WriteFile(path, bytes.Replace(file, []byte(own), []byte(template), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	model := must[*Model](t)(Load(path, nil))
	t.Cleanup(func() { model.Close() })
	return model
}

func TestRenderTools(t *testing.T) {
	model := withTemplate(t, "{{ messages | tojson }} {{ tools | tojson }}")
	messages := []Message{
		{Role: "user", Content: "weather?"},
		{Role: "assistant", ToolCalls: []ToolCall{{ID: "1", Type: "function",
			Function: FunctionCall{Name: "get_weather", Arguments: []byte(`{"city": "Zürich"}`)}}}},
		{Role: "tool", Name: "get_weather", ToolCallID: "1", Content: "<sun>"},
	}
	tools := []Tool{{Type: "function", Function: Function{Name: "get_weather", Description: "now", Parameters: []byte(`{"b": 1, "a": 2}`)}}}
	want := `[{"role": "user", "content": "weather?"}, ` +
		`{"role": "assistant", "content": "", "tool_calls": [{"id": "1", "type": "function", "function": {"name": "get_weather", "arguments": {"city": "Zürich"}}}]}, ` +
		`{"role": "tool", "content": "<sun>", "name": "get_weather", "tool_call_id": "1"}] ` +
		`[{"type": "function", "function": {"name": "get_weather", "description": "now", "parameters": {"b": 1, "a": 2}}}]`
	if s := must[string](t)(model.RenderChat(messages, &ChatOptions{Tools: tools})); s != want {
		t.Errorf("rendered %s\nexpected %s", s, want)
	}
	if s := must[string](t)(model.RenderChatJSON([]byte(`[{"z": 1, "a": null}]`), []byte(`[7]`), nil)); s != `[{"z": 1, "a": null}] [7]` {
		t.Errorf("rendered %s", s)
	}
	if s := must[string](t)(model.RenderChat(nil, nil)); !strings.HasPrefix(s, "[] ") {
		t.Errorf("nothing rendered as %s", s)
	}
}

func TestTemplateRefuses(t *testing.T) {
	model := withTemplate(t, "{{ raise_exception('no questions') }}")
	if _, err := model.Generate(background, question, nil); !errors.Is(err, ErrTemplate) || !strings.Contains(err.Error(), "no questions") {
		t.Error(err)
	}
	if g, err := model.Generate(background, "hi", &GenerateOptions{Prompt: PromptRaw}); err != nil || g.PromptTokens == 0 {
		t.Errorf("raw prompt: %+v, %v", g, err)
	}
}

func TestRenderChatMisuse(t *testing.T) {
	user := []byte(`[{"role": "user", "content": "hi"}]`)
	for name, call := range map[string]func() error{
		"utf8": func() error { _, err := tiny().RenderChat([]Message{{Role: "user", Content: "\xff"}}, nil); return err },
		"json": func() error { _, err := tiny().RenderChatJSON([]byte("{"), nil, nil); return err },
		"list": func() error { _, err := tiny().RenderChatJSON([]byte("{}"), nil, nil); return err },
		"nul":  func() error { _, err := tiny().RenderChatJSON([]byte("[]\x00"), nil, nil); return err },
		"tool": func() error { _, err := tiny().RenderChatJSON(user, []byte("7"), nil); return err },
		"call": func() error {
			call := ToolCall{Function: FunctionCall{Name: "f", Arguments: []byte("{")}}
			_, err := tiny().RenderChat([]Message{{Role: "assistant", ToolCalls: []ToolCall{call}}}, nil)
			return err
		},
		"none": func() error { _, err := tiny().RenderChatJSON(nil, nil, nil); return err },
	} {
		if err := call(); !errors.Is(err, ErrInvalidArgument) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
