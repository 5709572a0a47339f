package members

import (
	"bytes"
	"log"
	"log/slog"
	"strings"
)

// quiet gives memberlist a logger. What it calls a warning is the everyday of a network;
// we log who comes and goes ourselves, so only its errors are worth a line.
func quiet(to *slog.Logger) *log.Logger { return log.New(lineLog{to}, "", 0) }

type lineLog struct{ to *slog.Logger }

// Write logs one line, "[WARN] memberlist: text", at the level it names.
func (l lineLog) Write(b []byte) (int, error) {
	level := slog.LevelDebug
	text := string(bytes.TrimSpace(b))
	if word, rest, ok := strings.Cut(strings.TrimPrefix(text, "["), "] "); ok && strings.HasPrefix(text, "[") {
		text = rest
		if word == "ERR" {
			level = slog.LevelInfo
		}
	}
	say := l.to.Debug
	if level == slog.LevelInfo {
		say = l.to.Info
	}
	say(strings.TrimPrefix(text, "memberlist: "), "from", "memberlist")
	return len(b), nil
}
