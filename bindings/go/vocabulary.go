package dgemma

// #include "shim.h"
import "C"

import "strconv"

// A Token is the id of a token, below [ModelInfo.VocabSize].
type Token = uint32

// TokenizeFlags say how to read a text.
type TokenizeFlags uint32

const (
	// AddBOS puts the token that begins a text in front. A rendered chat has its own.
	AddBOS TokenizeFlags = C.DGEMMA_TOKENIZE_ADD_BOS
	// ParseSpecial turns control tokens spelled in the text, for instance "<|turn>", into those tokens. For rendered
	// chats and texts of your own; user input should stay text.
	ParseSpecial TokenizeFlags = C.DGEMMA_TOKENIZE_PARSE_SPECIAL
)

// Tokenize encodes a text. Errors: [ErrInvalidArgument] (not UTF-8), [ErrTokenizer].
func (m *Model) Tokenize(text string, flags TokenizeFlags) (tokens []Token, err error) {
	err = m.use(func(model *C.dgemma_model) (err error) {
		// A text has at most a token per byte, and two more.
		tokens, err = collect(len(text)+2, func(buffer []Token, n *C.size_t, failure **C.char) C.dgemma_status {
			return C.shim_model_tokenize(model, textData(text), C.size_t(len(text)), C.uint32_t(flags), tokenData(buffer),
				C.size_t(len(buffer)), n, failure)
		})
		return err
	})
	return tokens, err
}

// Special is what Detokenize and NewDetokenizer do with control tokens.
type Special bool

const (
	// HideSpecial leaves control tokens out of texts.
	HideSpecial Special = false
	// ShowSpecial spells them.
	ShowSpecial Special = true
)

func (s Special) flags() C.uint32_t {
	if s {
		return C.DGEMMA_DETOKENIZE_SPECIAL
	}
	return 0
}

// Detokenize decodes tokens to text. Pieces that are no valid UTF-8 become U+FFFD; see [Detokenizer] for text that
// arrives bit by bit.
func (m *Model) Detokenize(tokens []Token, special Special) (text string, err error) {
	err = m.use(func(model *C.dgemma_model) (err error) {
		text, err = collectText(8*len(tokens)+1, func(p *C.char, room C.size_t, n *C.size_t, failure **C.char) C.dgemma_status {
			return C.shim_model_detokenize(model, tokenData(tokens), C.size_t(len(tokens)), special.flags(), p, room, n, failure)
		})
		return err
	})
	return text, err
}

// Piece is the text of one token as the vocabulary spells it: spaces as U+2581, bytes as "<0x41>".
func (m *Model) Piece(token Token) (piece string, err error) {
	err = m.use(func(model *C.dgemma_model) (err error) {
		piece, err = collectText(64, func(p *C.char, room C.size_t, n *C.size_t, text **C.char) C.dgemma_status {
			return C.shim_token_piece(model, C.uint32_t(token), p, room, n, text)
		})
		return err
	})
	return piece, err
}

// TokenAttributes say what a token is: one of TokenNormal to TokenByte, and TokenEnd if it ends an answer.
type TokenAttributes uint32

const (
	// TokenNormal is a piece of text.
	TokenNormal TokenAttributes = C.DGEMMA_TOKEN_NORMAL
	// TokenUnknown stands for what the vocabulary cannot express.
	TokenUnknown TokenAttributes = C.DGEMMA_TOKEN_UNKNOWN
	// TokenControl is structure, not text; it decodes to nothing.
	TokenControl TokenAttributes = C.DGEMMA_TOKEN_CONTROL
	// TokenUserDefined is structure that is always recognised in text and always shown.
	TokenUserDefined TokenAttributes = C.DGEMMA_TOKEN_USER_DEFINED
	// TokenUnused is a free slot.
	TokenUnused TokenAttributes = C.DGEMMA_TOKEN_UNUSED
	// TokenByte is one byte of UTF-8.
	TokenByte TokenAttributes = C.DGEMMA_TOKEN_BYTE
	// TokenEnd ends an answer.
	TokenEnd TokenAttributes = C.DGEMMA_TOKEN_END
)

// Attributes says what a token is.
func (m *Model) Attributes(token Token) (attributes TokenAttributes, err error) {
	err = m.use(func(model *C.dgemma_model) error {
		var out C.uint32_t
		var text *C.char
		err := check(C.shim_token_attributes(model, C.uint32_t(token), &out, &text), &text)
		attributes = TokenAttributes(out)
		return err
	})
	return attributes, err
}

// IsEnd reports whether a token ends an answer. No if there is no such token, or the model is closed.
func (m *Model) IsEnd(token Token) (is bool) {
	_ = m.use(func(model *C.dgemma_model) error {
		is = C.dgemma_token_is_end(model, C.uint32_t(token)) != 0
		return nil
	})
	return is
}

// FindToken is the token with exactly this text, spelled as [Model.Piece] spells it. The error is [ErrNotFound] if there
// is none.
func (m *Model) FindToken(piece string) (token Token, err error) {
	err = m.use(func(model *C.dgemma_model) error {
		var out C.uint32_t
		var text *C.char
		err := check(C.shim_token_find(model, textData(piece), C.size_t(len(piece)), &out, &text), &text)
		token = Token(out)
		return err
	})
	return token, err
}

// A Role of a token in the vocabulary.
type Role uint32

const (
	// BOS begins a text.
	BOS Role = C.DGEMMA_SPECIAL_BOS
	// EOS ends a text. Others may end an answer too: see [Model.IsEnd].
	EOS Role = C.DGEMMA_SPECIAL_EOS
	// Unknown stands for what the vocabulary cannot express.
	Unknown Role = C.DGEMMA_SPECIAL_UNKNOWN
	// Padding fills a batch.
	Padding Role = C.DGEMMA_SPECIAL_PADDING
	// Mask is <mask>; this model's sampler has no use for it.
	Mask Role = C.DGEMMA_SPECIAL_MASK
)

func (r Role) String() string {
	names := [...]string{BOS: "BOS", EOS: "EOS", Unknown: "Unknown", Padding: "Padding", Mask: "Mask"}
	if int(r) < len(names) {
		return names[r]
	}
	return "Role(" + strconv.Itoa(int(r)) + ")"
}

// SpecialToken is the token with a role. The error is [ErrNotFound] if the vocabulary has none.
func (m *Model) SpecialToken(role Role) (token Token, err error) {
	err = m.use(func(model *C.dgemma_model) error {
		var out C.uint32_t
		var text *C.char
		err := check(C.shim_model_special_token(model, C.uint32_t(role), &out, &text), &text)
		token = Token(out)
		return err
	})
	return token, err
}
