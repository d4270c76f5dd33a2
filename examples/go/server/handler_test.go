package main

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"dgemma"
)

func newServer(t *testing.T, backend dgemma.Backend) (url string) {
	model, err := dgemma.Load("../../tiny/dgemma-tiny.gguf", &dgemma.LoadOptions{Backend: backend})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(newHandler(model, 1))
	t.Cleanup(func() {
		server.Close()
		model.Close()
	})
	return server.URL
}

func post(t *testing.T, ctx context.Context, url, body string) *http.Response {
	t.Helper()
	request, err := http.NewRequestWithContext(ctx, "POST", url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { response.Body.Close() })
	return response
}

func TestAnswer(t *testing.T) {
	response := post(t, context.Background(), newServer(t, dgemma.CPU), `{"prompt": "Count from 3 to 11.", "seed": 5}`)
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK || response.Header.Get("Content-Type") != "text/event-stream" {
		t.Errorf("%v, %v, %v", err, response.Status, response.Header)
	}
	text := "event: text\ndata: \"3, 4, 5, 6, 7, 8, 9, 10, 11\"\n\nevent: end\ndata: {\"steps\":2,\"stop_reason\":\"end of generation\",\"tokens\":19}\n\n"
	if !strings.HasPrefix(string(body), "event: draft\ndata: \"") || !strings.HasSuffix(string(body), text) {
		t.Errorf("body %s", body)
	}
}

func TestRefusals(t *testing.T) {
	url := newServer(t, dgemma.CPU)
	for body, text := range map[string]string{
		"{": "the body is no request", `{"prompt": 7}`: "the body is no request",
		`{"prompt": "hi", "max_tokens": -1}`: "`max_tokens`: is -1",
	} {
		response := post(t, context.Background(), url, body)
		answer, _ := io.ReadAll(response.Body)
		if response.StatusCode != http.StatusBadRequest || !strings.Contains(string(answer), text) {
			t.Errorf("%s: %s %s", body, response.Status, answer)
		}
	}
}

// A client that goes away makes room for the next one: there is one slot. The reference backend takes minutes for what the
// client asked for.
func TestDisconnect(t *testing.T) {
	url := newServer(t, dgemma.Reference)
	ctx, cancel := context.WithCancel(context.Background())
	response := post(t, ctx, url, `{"prompt": "Tell me a story about a grey fox.", "max_tokens": 4000, "ignore_end": true}`)
	if line, err := bufio.NewReader(response.Body).ReadString('\n'); line != "event: draft\n" {
		t.Errorf("%q, %v", line, err)
	}
	cancel()
	limited, done := context.WithTimeout(context.Background(), 20*time.Second)
	defer done()
	next := post(t, limited, url, `{"prompt": "What is 7 + 12?"}`)
	if body, err := io.ReadAll(next.Body); err != nil || !strings.Contains(string(body), "event: text\ndata: \"19\"") {
		t.Errorf("%s, %v", body, err)
	}
}
