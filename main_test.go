// The tests talk to the server as clients do: over real connections to 127.0.0.1, on a port that the
// system chooses.
//
//	go test ./...                             all of them
//	go test -run TestConversations/group .    the conversations whose names contain "group"
//	go test -run TestAssignment               grade: the 37 cases of the assignment and their marks
//	go test -run '^$' -bench . -benchmem .    measure
//
// The order is that of main.go:
//
//	the server under test       start and startProgram
//	conversations               how to write a test: the rows, and what each verb means
//	starting and stopping       TestNotStarting, TestUsersFile, TestStopping..., TestLog,
//	                            TestNoDescriptors, TestClient
//	the life of a connection    TestLogin, TestEnd, TestLeaving
//	from bytes to messages      TestFraming..., TestSplits, TestGarbage
//	from messages to sockets    TestStuck, TestFullQueues, TestSlowReader, TestLongList
//	commands                    TestConversations, TestRefusals
//	many at once                TestAtOnce, TestLives
//	fuzzing                     FuzzFraming, FuzzCommand
//	grading                     TestAssignment, for this server or for any other
//	benchmarks                  BenchmarkFanOut, BenchmarkPrivate, BenchmarkIdle
//
// No test sleeps in order to wait. It waits for an event (a line, the end of a connection or of a
// program, a line of the log) and fails when the event has not come after patience.
package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"math/rand"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/iotest"
	"time"
	"unicode"
	"unicode/utf8"
)

// ---- The server under test ----------------------------------------------------------------------

// patience is how long a test waits for an event that must come. Only a test that fails spends it.
const patience = 20 * time.Second

// A running is a server under test.
type running struct {
	*server // nil if it is a program of its own
	addr    string
	logs    *output
	stop    func()
}

// start starts a server in this process, and stops it after the test. Two of its limits are shorter
// than those of the program. A row like "server slowTimeout 2s" changes a limit.
func start(t testing.TB, rows string) *running {
	t.Helper()
	logs := new(output)
	s := newServer(users(), log.New(logs, "", log.LstdFlags))
	s.refusalDelay, s.passwordPause = 50*time.Millisecond, 50*time.Millisecond
	limits := map[string]*time.Duration{
		"loginTimeout": &s.loginTimeout, "slowTimeout": &s.slowTimeout, "refusalDelay": &s.refusalDelay,
		"passwordPause": &s.passwordPause,
	}
	for _, row := range regexp.MustCompile(`(?m)^\s*server (\w+) (.+)$`).FindAllStringSubmatch(rows, -1) {
		limit := limits[row[1]]
		duration, err := time.ParseDuration(row[2])
		if limit == nil || err != nil {
			t.Fatalf("there is no limit %q (%v)", row[0], err)
		}
		*limit = duration
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go s.serve(listener)
	t.Cleanup(func() { s.stop(listener); s.sessions.Wait() })
	return &running{s, listener.Addr().String(), logs, func() { s.stop(listener) }}
}

// users are the ones of users.txt, one whose password has colons and spaces, and u0 to u199 with
// the passwords p0 to p199.
func users() map[string]string {
	passwords := map[string]string{
		"alice": "password123", "bob": "qwerty456", "charlie": "secure789", "david": "helloWorld!",
		"eve": "trustno1", "frank": "letmein", "grace": "passw0rd", "colon": "a:b c:",
	}
	for i := range 200 {
		passwords[fmt.Sprint("u", i)] = fmt.Sprint("p", i)
	}
	return passwords
}

// serverSide returns the server's end of a client that is online.
func (r *running) serverSide(name string) *client {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.online[name]
}

// An output is what somebody prints, or logs. It can be read while more comes; of very much it keeps the end.
type output struct {
	mu   sync.Mutex
	text []byte
	last time.Time // when something came
}

// Write takes what is printed.
func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.text = append(o.text, b...)
	o.text = o.text[max(0, len(o.text)-1<<20):]
	o.last = time.Now()
	return len(b), nil
}

// String returns what was printed so far.
func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return string(o.text)
}

// TestMain runs the tests, many at a time, because most of them wait most of the time. This program
// also serves as the chat server, and as the grader's keeper, when the tests start it again.
func TestMain(m *testing.M) {
	switch os.Getenv("CHAT_TEST_AS") {
	case "server":
		main()
	case "keeper":
		keep(os.Args[1], os.Args[2], os.Args[3])
	default:
		flag.Set("test.parallel", "32") // -parallel on the command line comes later and wins
		os.Args[0], _ = os.Executable() // an absolute path, because it is started in other folders
		os.Exit(m.Run())
	}
}

// inFolder returns a command that runs in a folder of its own with this users.txt.
func inFolder(t testing.TB, usersFile, program string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Dir = t.TempDir()
	cmd.Env = append(os.Environ(), "CHAT_TEST_AS=server", "GORACE=atexit_sleep_ms=0")
	if err := os.WriteFile(filepath.Join(cmd.Dir, "users.txt"), []byte(usersFile), 0o644); err != nil {
		t.Fatal(err)
	}
	return cmd
}

// run runs a command that ends by itself and returns what it printed and its exit status.
func run(t testing.TB, cmd *exec.Cmd) (stdout, stderr string, status int) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	status = ended(cmd)
	return out.String(), errs.String(), status
}

// ended waits for a program to end and returns its exit status. After patience it is killed; then this is -1.
func ended(cmd *exec.Cmd) int {
	timer := time.AfterFunc(patience, func() { cmd.Process.Kill() })
	defer timer.Stop()
	cmd.Wait()
	return cmd.ProcessState.ExitCode()
}

// A program is a server that runs as a program of its own. Its log goes through a pipe.
type program struct {
	*running
	*exec.Cmd
	console, far *os.File // the two ends of the pipe
}

// startProgram starts the server as a program, by a wrapper command if there is one, and returns
// when it listens. Its log is read if readLog is called.
func startProgram(t testing.TB, usersFile string, wrapper ...string) *program {
	t.Helper()
	args := append(wrapper, os.Args[0], "127.0.0.1:0")
	p := &program{Cmd: inFolder(t, usersFile, args[0], args[1:]...), running: &running{logs: new(output)}}
	var err error
	if p.console, p.far, err = os.Pipe(); err != nil {
		t.Fatal(err)
	}
	p.Stderr = p.far
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.console.Close(); p.far.Close(); p.Process.Kill(); p.Wait() })
	p.console.SetReadDeadline(time.Now().Add(patience))
	first := make([]byte, 200) // a line of the log is one write
	n, err := p.console.Read(first)
	line := strings.TrimSpace(string(first[:n]))
	p.addr = line[strings.LastIndex(line, " ")+1:]
	if !strings.Contains(p.addr, ":") {
		t.Fatalf("the server did not start: %q, %v", line, err)
	}
	p.logs.Write(first[:n])
	p.console.SetReadDeadline(time.Time{})
	p.stop = func() { p.Process.Signal(syscall.SIGTERM) }
	return p
}

// readLog reads what the program logs, until the program or the test ends.
func (p *program) readLog() *program {
	p.far.Close()
	go io.Copy(p.logs, p.console)
	return p
}

// ---- Conversations ------------------------------------------------------------------------------
//
// Most tests are tables of conversations: for examples, see TestConversations, TestLogin and TestEnd.
// A row says who does what:
//
//	alice in                     logs in; all others who are in hear "alice has joined the chat."
//	alice > /users               says a line (raw clients say it without a newline)
//	alice < Goodbye!             must hear this line next
//	alice > /quit -> Goodbye!    both: says the first and must hear the second next
//	alice < [bob]: hi | END      must hear this line, and then the end: the server has closed the connection
//	alice until Goodbye!         hears any lines, and then this one
//	alice silent 300ms           hears nothing for so long
//	alice gone                   closes her connection
//
//	server stops                 as if a signal had come
//	server slowTimeout 2s        a limit: slowTimeout, loginTimeout, refusalDelay or passwordPause. With 1h,
//	                             a conversation shows that nobody waits for this limit
//	log has WARN alice           the log has, sooner or later, what matches this regular expression
//	log lacks secret             the log has no such thing now
//
// The login, and clients that do not behave, need more. These clients are not "in":
//
//	x connects                   opens a connection
//	x login bob\n qwerty456\n    connects and sends the first piece, and the others when it is asked for the
//	                             password; a space ends a piece, and "->" may follow
//	x >> /us                     sends these bytes, and no newline; for a raw client they are a message
//	x << Enter username:\x20     must hear exactly these bytes next, whatever words are in them
//	x pauses 20ms                does nothing
//	x floods {/users\n*1000}     goes on sending these bytes while the next rows are played
//	x half-closes                will send no more, but still hears
//	x resets                     closes the connection with a reset
//	x deaf                       stops reading; the buffers between it and the server are small
//	x stuck                      is deaf, and its queue in the server is full
//	x dead                       the server has closed its side, too: nothing can be sent any more
//
// A row may begin with several names, as in "alice,bob" or "u0..u9". In a text, \t, \n, \x1b and
// \u2028 mean what they mean in Go (\x7c is a |), and {x*1025} is x, 1,025 times.
//
// A user who is in must hear each line that comes, in order: whatever comes uninvited is found at the
// next row that waits for a line. A line must not have the letters fail, error, exist or not in it,
// unless it is a refusal or comes from another user. A user is not in any more after END, gone and
// the rows from floods on; rows must say who hears that she has left. She can come in again. (After
// gone or resets, her name is free a moment after the others have heard it, so let somebody else say
// something in between.) To know that the server has read half a line, send a command before it, in
// the same row, and wait for the reply.
//
// Nobody can wait for a line that must not come. So at the end of a conversation everybody who is
// in writes to himself by /msg, and must hear that and the usual reply next. This is called a fence.
// It proves that nothing else was on its way, because the server queues all that a command sends
// before it answers.

// conversations are a table of tests: name and rows.
type conversations [][2]string

// A kind is a kind of client: its name, and how it ends a message.
type kind struct{ name, end string }

var (
	lines = kind{"lines", `\n`}
	raw   = kind{"raw", ""}
)

// play plays each conversation with a server of its own, once with each kind of client.
func (table conversations) play(t *testing.T, kinds ...kind) {
	t.Helper()
	t.Parallel()
	for _, row := range table {
		for _, kind := range kinds {
			t.Run(row[0]+"/"+kind.name, func(t *testing.T) {
				t.Parallel()
				converse(t, kind, row[1])
			})
		}
	}
}

// converse plays one conversation and returns it, so that a test can go on with it.
func converse(t testing.TB, kind kind, rows string) *talk {
	t.Helper()
	c := newTalk(t, start(t, rows), kind)
	c.play(rows)
	return c
}

// A talk is a conversation. It remembers what was said and heard: a failure shows it.
type talk struct {
	testing.TB
	*running
	kind  kind
	peers map[string]*peer
	here  map[string]bool // those who are in, and read
	row   string          // is being played
	story []string
}

// A peer is a client in a conversation.
type peer struct {
	*talk
	name string
	conn *net.TCPConn
	in   *bufio.Reader
}

// newTalk returns a conversation in which nothing was said yet.
func newTalk(t testing.TB, r *running, kind kind) *talk {
	return &talk{TB: t, running: r, kind: kind, peers: map[string]*peer{}, here: map[string]bool{}}
}

// play plays rows, and ends with the fences.
func (c *talk) play(rows string) {
	c.Helper()
	for _, row := range strings.Split(rows, "\n") {
		c.row = strings.TrimLeft(row, "\t ")
		who, rest, _ := strings.Cut(c.row, " ")
		verb, text, _ := strings.Cut(strings.TrimLeft(rest, " "), " ")
		logged := func() bool { return regexp.MustCompile("(?m)" + text).MatchString(c.logs.String()) }
		switch {
		case c.row == "":
		case who == "server" && verb == "stops":
			c.stop()
		case who == "server" && text != "": // a limit, which start has set
		case who == "log" && verb == "has":
			c.until(logged)
		case who == "log" && logged():
			c.fail("it is in the log")
		case who == "log": // lacks it
		default:
			for _, name := range each(who) {
				c.does(name, verb, text)
			}
		}
	}
	for name := range c.here {
		c.row = "the fence of " + name
		c.does(name, ">", "/msg "+name+" fence -> ["+name+"]: fence")
		c.does(name, "<", "Message sent to "+name+".")
	}
}

// does plays a row for one peer.
func (c *talk) does(name, verb, text string) {
	c.Helper()
	p := c.peers[name]
	duration, _ := time.ParseDuration(text)
	said, replies, replied := strings.Cut(text, " -> ")
	switch verb {
	case "connects":
		c.connect(name)
	case "login":
		p = c.connect(name)
		p.logIn(strings.Fields(said)...)
	case "in":
		p = c.connect(name)
		p.logIn(name+c.kind.end, users()[name]+c.kind.end)
		p.hear("Welcome to the chat server!\n")
		for other := range c.here {
			c.peers[other].hear(name + " has joined the chat.\n")
		}
		c.here[name] = true
	case ">":
		p.send(unescape(said + c.kind.end))
	case "<":
		p.hearLines(text)
	case "until":
		p.hearUntil(unescape(text))
	case ">>":
		p.send(unescape(text))
	case "<<":
		p.hear(unescape(text))
	case "silent":
		p.conn.SetReadDeadline(time.Now().Add(duration))
		if _, err := p.in.Peek(1); !os.IsTimeout(err) {
			p.fail("%s heard something, or the end (%v)", p.name, err)
		}
	case "pauses":
		time.Sleep(duration) // not in order to wait: a slow peer is what the test needs
	default:
		delete(c.here, name)
		p.misbehaves(verb, text)
	}
	if replied {
		p.hearLines(replies)
	}
}

// misbehaves plays a row after which a peer is not in any more, or cannot be expected to hear a fence.
func (p *peer) misbehaves(verb, text string) {
	p.Helper()
	switch verb {
	case "gone":
		p.conn.Close()
	case "resets":
		p.conn.SetLinger(0)
		p.conn.Close()
	case "half-closes":
		p.conn.CloseWrite()
	case "dead":
		p.conn.SetWriteDeadline(time.Time{})
		p.until(func() bool {
			_, err := p.conn.Write([]byte("."))
			return err != nil
		})
	case "floods":
		go io.WriteString(p.conn, unescape(text)) // ends with the connection; an error is no concern
	case "deaf", "stuck":
		p.conn.SetReadBuffer(4 << 10)
		inside := p.serverSide(p.name)
		inside.conn.SetWriteBuffer(4 << 10)
		for full := 0; full < 4 && verb == "stuck"; {
			select {
			case inside.queue <- kilo + "\n":
				full = 0
			case <-time.After(100 * time.Millisecond): // nothing else tells that the writer is stuck
				full++
			}
		}
	default:
		p.Fatalf("nobody knows what this row means: %q", p.row)
	}
}

// kilo is a text that makes a line of about a kilobyte.
var kilo = strings.Repeat("x", 1000)

// each returns the names in "alice,bob" and in "u0..u9".
func each(names string) (list []string) {
	for _, name := range strings.Split(names, ",") {
		first, last, isRange := strings.Cut(name, "..")
		if !isRange {
			list = append(list, name)
			continue
		}
		letters := strings.TrimRight(first, "0123456789")
		from, _ := strconv.Atoi(first[len(letters):])
		to, _ := strconv.Atoi(last[len(letters):])
		for i := from; i <= to; i++ {
			list = append(list, fmt.Sprint(letters, i))
		}
	}
	return list
}

var repeated = regexp.MustCompile(`\{[^{}]*\*\d+\}`)

// unescape returns the text that is meant by \n, \x1b and {x*1025}.
func unescape(text string) string {
	text = repeated.ReplaceAllStringFunc(text, func(found string) string {
		star := strings.LastIndex(found, "*")
		times, _ := strconv.Atoi(found[star+1 : len(found)-1])
		return strings.Repeat(found[1:star], times)
	})
	text, err := strconv.Unquote(`"` + strings.ReplaceAll(text, `"`, `\"`) + `"`)
	if err != nil {
		panic("a bad escape in " + text)
	}
	return text
}

// fail ends the test with the story so far.
func (c *talk) fail(format string, args ...any) {
	c.Helper()
	story := strings.Join(c.story[max(0, len(c.story)-30):], "\n    ")
	c.Fatalf("%s\nIt failed at: %.200s\nThe conversation so far:\n    %s\nThe log:\n%.2000s",
		fmt.Sprintf(format, args...), c.row, story, c.logs)
}

// note adds a line to the story.
func (p *peer) note(what, text string) {
	p.story = append(p.story, fmt.Sprintf("%-8s %s %.200q", p.name, what, text))
}

// until waits for a condition that no line on a connection tells of.
func (c *talk) until(ok func() bool) {
	c.Helper()
	for late := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(late) {
			c.fail("this has not come within %v", patience)
		}
	}
}

// connect returns a new peer, who has not logged in.
func (c *talk) connect(name string) *peer {
	c.Helper()
	conn, err := net.Dial("tcp", c.addr)
	if err != nil {
		c.fail("%s cannot connect: %v", name, err)
	}
	c.Cleanup(func() { conn.Close() })
	c.peers[name] = &peer{c, name, conn.(*net.TCPConn), bufio.NewReader(conn)}
	return c.peers[name]
}

// logIn sends the pieces of a login, the second when asked for the password.
func (p *peer) logIn(pieces ...string) {
	p.Helper()
	p.hear("Enter username: ")
	p.send(unescape(pieces[0]))
	p.hear("Enter password: ")
	for _, piece := range pieces[1:] {
		p.send(unescape(piece))
	}
}

// send sends bytes as they are, in one write.
func (p *peer) send(data string) {
	p.Helper()
	p.note("says ", data)
	p.conn.SetWriteDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(p.conn, data); err != nil {
		p.fail("%s cannot send %.80q: %v", p.name, data, err)
	}
}

// line waits for the next line and returns it without its end.
func (p *peer) line() string {
	p.Helper()
	p.conn.SetReadDeadline(time.Now().Add(patience))
	got, err := p.in.ReadString('\n')
	p.note("hears", got)
	if err != nil {
		p.fail("%s heard %q and then %v, want a line", p.name, got, err)
	}
	return strings.TrimSuffix(got, "\n")
}

// hear waits for exactly these bytes. At the first that is different, it shows the rest of that line.
func (p *peer) hear(want string) {
	p.Helper()
	p.conn.SetReadDeadline(time.Now().Add(patience))
	for i := range len(want) {
		next, err := p.in.Peek(1)
		if err != nil || next[0] != want[i] {
			rest, _ := p.in.Peek(p.in.Buffered())
			line, _, _ := strings.Cut(string(rest), "\n")
			p.fail("%s heard %.300q (%v)\n%*swant %.300q", p.name, want[:i]+line, err, len(p.name)+1, "", want)
		}
		p.in.Discard(1)
	}
	p.note("hears", want)
}

// hearLines waits for lines that are divided by " | ". END is the end of the connection. A program must be
// able to tell a refusal from other lines by its words.
func (p *peer) hearLines(want string) {
	p.Helper()
	for _, line := range strings.Split(want, " | ") {
		if line == "END" {
			p.hearEnd()
			return
		}
		line = unescape(line)
		p.hear(line + "\n")
		refused := strings.HasPrefix(line, "Error: ") && regexp.MustCompile(`not|exist|usage: `).MatchString(line)
		said := strings.HasPrefix(line, "[") || strings.HasPrefix(line, "Authentication failed")
		if refused != refusal.MatchString(line) && !said {
			p.fail("a program cannot tell by its words whether %q is a refusal", line)
		}
	}
}

// hearEnd waits for the end of the connection.
func (p *peer) hearEnd() {
	p.Helper()
	p.conn.SetReadDeadline(time.Now().Add(patience))
	if _, err := p.in.Peek(1); err != io.EOF {
		p.fail("%s heard %.200q (%v), want the end of the connection", p.name, p.line(), err)
	}
	p.conn.Close()
	delete(p.here, p.name)
}

// refusal matches the words by which a program knows a refusal.
var refusal = regexp.MustCompile(`(?i)fail|error|exist|not`)

// hearUntil waits for a line and returns those that came before it.
func (p *peer) hearUntil(last string) (before []string) {
	p.Helper()
	for line := p.line(); line != last; line = p.line() {
		before = append(before, line)
	}
	return before
}

// ---- Starting and stopping ----------------------------------------------------------------------

// twoUsers is a users file.
const twoUsers = "alice:password123\nbob:qwerty456\n"

// A mistake that is found at the start ends the program with one line and the right exit status.
func TestNotStarting(t *testing.T) {
	t.Parallel()
	busy := start(t, "")
	usage, anyPort := "usage: go run . [host:port]", "127.0.0.1:0"
	for _, tc := range []struct {
		name, users string
		args        []string
		want        string
	}{
		{"no colon", "alice:x\nbob\n", []string{anyPort}, "users.txt:2: want username:password"},
		{"empty name", ":x\n", []string{anyPort}, "users.txt:1:"},
		{"blank password", "alice: \t\r\n", []string{anyPort}, "users.txt:1:"},
		{"space in the name", "\n\r\nal ice:x\n", []string{anyPort}, "users.txt:3:"},
		{"space before the name", " alice:x\n", []string{anyPort}, "users.txt:1:"},
		{"tab in the name", "al\tice:x\n", []string{anyPort}, "users.txt:1:"},
		{"invisible space in the name", "al\u00a0ice:x\n", []string{anyPort}, "users.txt:1:"},
		{"bracket in the name", "[alice:x\n", []string{anyPort}, "users.txt:1:"},
		{"same name twice", "alice:x\nbob:y\nalice:z", []string{anyPort}, "users.txt:3:"},
		{"no users file", "", []string{anyPort}, "users.txt: no such file"},
		{"logs is a file", "", []string{anyPort}, "cannot open the log file: open logs/"},
		{"two arguments", twoUsers, []string{anyPort, "x"}, usage},
		{"no port", twoUsers, []string{"127.0.0.1"}, usage},
		{"empty port", twoUsers, []string{"127.0.0.1:"}, usage},
		{"port in use", twoUsers, []string{busy.addr}, "address already in use"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			cmd := inFolder(t, tc.users, os.Args[0], tc.args...)
			switch tc.name {
			case "no users file":
				os.Remove(filepath.Join(cmd.Dir, "users.txt"))
			case "logs is a file":
				os.WriteFile(filepath.Join(cmd.Dir, "logs"), nil, 0o600)
			}
			want := 1
			if strings.HasPrefix(tc.want, "usage") {
				want = 2
			}
			stdout, stderr, status := run(t, cmd)
			if status != want || !strings.Contains(stderr, tc.want) || strings.Count(stderr, "\n") != 1 || stdout != "" {
				t.Errorf("exit status %d, standard error %q, standard output %q, want %d and one line with %q",
					status, stderr, stdout, want, tc.want)
			}
		})
	}
}

// All that a users file may hold is let in.
func TestUsersFile(t *testing.T) {
	t.Parallel()
	var file strings.Builder
	file.WriteString("\ufeffalice:a:b c \r\n \t\n\nbøb:ü\n")
	for i := range 100000 {
		fmt.Fprintf(&file, "u%d:p%d\n", i, i)
	}
	file.WriteString("last:one")
	newTalk(t, startProgram(t, file.String()).readLog().running, lines).play(`
		log has serving 100003 users
		a login alice\n a:b\x20c\x20\n -> Welcome to the chat server!
		b login bøb\n ü\n -> Welcome to the chat server!
		c login u99999\n p99999\n -> Welcome to the chat server!
		d login last\n one\n -> Welcome to the chat server!`)
}

// A signal ends the program, and everybody hears a goodbye.
func TestStopping(t *testing.T) {
	t.Parallel()
	for _, sig := range []os.Signal{syscall.SIGTERM, os.Interrupt, syscall.SIGHUP} {
		t.Run(sig.String(), func(t *testing.T) {
			t.Parallel()
			p := startProgram(t, twoUsers).readLog()
			p.stop = func() { p.Process.Signal(sig) }
			newTalk(t, p.running, lines).play(`
				alice,bob in
				x connects
				server stops
				alice,bob < Server is shutting down. | END
				log has INFO stopping: ` + sig.String())
			if status := ended(p.Cmd); status != 0 {
				t.Errorf("exit status %d, want 0", status)
			}
		})
	}
}

// Whatever happens to the console, the chat goes on. A signal ends the program within 3 s, whatever the console
// and a client that does not read do. This test is not parallel to others, which could make it slow.
func TestStoppingInTime(t *testing.T) {
	for _, what := range []string{"console gone", "console stopped", "stuck client"} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			limit := 3 * time.Second
			p := startProgram(t, twoUsers+"charlie:secure789\n")
			c := newTalk(t, p.running, lines)
			c.play("alice in") // the fence shows that her session does not wait for the console any more
			switch what {
			case "console gone":
				limit = stopTimeout // nobody delays the end here
				p.console.Close()
				p.far.Close()
				c.play(`
					bob in
					bob > /quit -> Goodbye! | END
					alice < bob has left the chat.`)
			case "console stopped": // fill the pipe, so that the next line of the log has to wait
				fd := int(p.far.Fd())
				syscall.SetNonblock(fd, true)
				for err := error(nil); err == nil; {
					_, err = syscall.Write(fd, []byte("."))
				}
				syscall.SetNonblock(fd, false)
			case "stuck client":
				c.play("bob,charlie in")
				charlie := c.peers["charlie"]
				full := false
				for sent := 0; sent < 5000 && !full; sent++ {
					charlie.send("/msg bob " + kilo + "\n")
					charlie.conn.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
					_, err := charlie.in.ReadString('\n')
					full = err != nil // bob's queue is full, so there is no answer
				}
				if !full {
					c.fail("bob's queue is never full")
				}
				c.here = nil
			}
			signalled := time.Now()
			c.play(`
				server stops
				alice < Server is shutting down. | END`)
			status := ended(p.Cmd)
			if took := time.Since(signalled); status != 0 || took >= limit {
				t.Errorf("exit status %d after %v, want 0 within %v", status, took, limit)
			}
		})
	}
}

// The end comes to all at the same moment, nobody gets in after it, and half a line is not carried out.
func TestStoppingInside(t *testing.T) {
	conversations{
		{"lets nobody in", `
			alice in
			late login bob\n
			server stops
			alice < Server is shutting down. | END
			late >> qwerty456\n
			late < Authentication failed: the server is shutting down. | END`},
		{"half a line", `
			alice,bob in
			alice >> /msg alice this was read\n/msg bob I do not agr
			alice < [alice]: this was read | Message sent to alice.
			server stops
			alice,bob < Server is shutting down. | END`},
	}.play(t, lines)
	t.Run("while all write", func(t *testing.T) {
		t.Parallel()
		c := converse(t, lines, `
			server slowTimeout 20s
			u0,alice,bob in
			u0 stuck`)
		c.play(`
			alice,bob floods {/msg alice hi\n/msg bob hi\n/users\n*100000}
			alice until [bob]: hi
			server stops
			u0 gone`)
		for _, name := range []string{"alice", "bob"} {
			before := c.peers[name].hearUntil("Server is shutting down.")
			if i := slices.IndexFunc(before, func(line string) bool { return strings.HasSuffix(line, " left the chat.") }); i >= 0 {
				t.Errorf("%s heard %q, although all are told that the server stops", name, before[i])
			}
		}
		c.play("alice,bob < END")
	})
}

// The log has what it should, the same on the console and in the file, and no secret.
func TestLog(t *testing.T) {
	t.Parallel()
	p := startProgram(t, twoUsers).readLog()
	line := `^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d `
	address := `from 127\.0\.0\.1:\d+`
	c := newTalk(t, p.running, lines)
	c.play(`
		alice in
		alice > /create_group cs -> Group cs created.
		alice > /msg alice a secret
		alice > /broadcast a secret
		alice > /group_msg cs a secret
		alice > a secret
		alice until Error: a is not a command. To write to all: /broadcast <message>. More: /help
		x login alice\n wr0ng\n -> Authentication failed. | END
		x login passw0rd\n wr0ng\n -> Authentication failed. | END
		x login alice\n password123\n -> Authentication failed: this user is logged in already. | END
		alice > /quit -> Goodbye! | END
		server stops
		log has ` + line + `INFO serving 2 users on 127\.0\.0\.1:\d+$
		log has ` + line + `INFO alice logged in ` + address + `$
		log has ` + line + `WARN login of alice ` + address + ` failed$
		log has ` + line + `WARN login of an unknown user ` + address + ` failed$
		log has ` + line + `WARN login of alice ` + address + ` failed: this user is logged in already$
		log has ` + line + `INFO alice logged out ` + address + `$
		log has ` + line + `INFO stopping: terminated$
		log lacks secret|password123|qwerty456|wr0ng|passw0rd|group`)
	ended(p.Cmd)
	var file []byte
	for _, pattern := range []string{"logs", "logs/????-??-??.log"} {
		paths, _ := filepath.Glob(filepath.Join(p.Dir, pattern))
		if len(paths) == 0 {
			t.Fatal("there is no log file for today")
		}
		for _, path := range paths { // two, if midnight was just now
			info, err := os.Stat(path)
			if err != nil || info.Mode().Perm()&0o077 != 0 {
				t.Errorf("%s has mode %v (%v), want it for its owner alone", path, info.Mode(), err)
			}
			text, _ := os.ReadFile(path)
			file = append(file, text...)
		}
	}
	if console := p.logs.String(); console != string(file) || strings.Count(console, "\n") != 7 {
		t.Errorf("the console shows\n%swant 7 lines, and the same in the file:\n%s", console, file)
	}
}

// Without file descriptors, the server waits, says so at its own pace, and goes on when there are some.
func TestNoDescriptors(t *testing.T) {
	t.Parallel()
	began := time.Now()
	p := startProgram(t, twoUsers, "sh", "-c", `ulimit -n 64 && exec "$0" "$@"`).readLog()
	newTalk(t, p.running, lines).play(`
		alice in
		x0..x199 connects
		log has ERROR cannot accept
		alice > /users -> Online users (1): alice
		x0..x199 gone
		bob in`)
	errors, pauses := strings.Count(p.logs.String(), "ERROR"), int(time.Since(began)/time.Second)+1
	if errors > pauses {
		t.Errorf("%d errors in the log, want one for each pause of a second: %d at most", errors, pauses)
	}
}

// The client prints what the server says, and its exit status says how it ended.
func TestClient(t *testing.T) {
	t.Parallel()
	const prompts, welcome = "Enter username: Enter password: ", "Welcome to the chat server!\n"
	const usage = "usage: go run ./client [host:port]\n"
	client := filepath.Join(t.TempDir(), "client")
	if out, err := exec.Command("go", "build", "-o", client, "./client").CombinedOutput(); err != nil {
		t.Fatalf("go build ./client: %v\n%s", err, out)
	}
	for _, tc := range []struct {
		name, input, stdout, stderr string
		status                      int
	}{
		{"quits", "alice\npassword123\n/users\n/quit\n", prompts + welcome + "Online users (1): alice\nGoodbye!\n", "", 0},
		{"input ends without a newline", "alice\npassword123\n/users", prompts + welcome + "Online users (1): alice\n", "", 0},
		{"wrong password", "alice\nwrong\n", prompts + "Authentication failed.\n", "", 1},
		{"no input", "", "Enter username: ", "the server closed the connection before the login was done\n", 1},
		{"server drops it", "alice\npassword123\n", prompts + welcome, "the server closed the connection without a goodbye\n", 1},
		{"server stops", "alice\npassword123\n", prompts + welcome + "Server is shutting down.\n", "", 0},
		{"slow login", "", "Enter username: Authentication failed: no login within 1 seconds.\n", "", 1},
		{"two arguments", "", "", usage, 2},
		{"flag", "", "", usage, 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := start(t, "server loginTimeout 1s")
			cmd := exec.Command(client, r.addr)
			typing, _ := cmd.StdinPipe() // Wait closes it
			io.WriteString(typing, tc.input)
			if !strings.HasPrefix(tc.name, "s") { // their input goes on, and the client must not wait for it
				typing.Close()
			}
			switch tc.name {
			case "two arguments":
				cmd.Args = append(cmd.Args, "x")
			case "flag":
				cmd.Args[1] = "-h"
			case "server stops", "server drops it":
				go func() { // ends when alice is in
					for r.serverSide("alice") == nil {
						time.Sleep(time.Millisecond)
					}
					if tc.name == "server stops" {
						r.stop()
					} else { // her session ends as if the connection were broken
						r.serverSide("alice").conn.SetReadDeadline(time.Now())
					}
				}()
			}
			stdout, stderr, status := run(t, cmd)
			if stdout != tc.stdout || stderr != tc.stderr || status != tc.status {
				t.Errorf("standard output %q, standard error %q, exit status %d\nwant %q, %q, %d",
					stdout, stderr, status, tc.stdout, tc.stderr, tc.status)
			}
		})
	}
}

// ---- The life of a connection -------------------------------------------------------------------

// A login comes out the same, however its bytes are cut into pieces.
func TestLogin(t *testing.T) {
	wrong := ""
	for _, login := range []string{`alice\n password124\n`, `carol\n password123\n`, `alice\nqwerty456\n`,
		`alice\npassword123\x20\n`, `ALICE\npassword123\n`, `alice\nPASSWORD123\n`, `alice\n\n`, `alice\n \x20\n`, `\n\n`,
		`\npassword123\n`, `{x*10000}\n y\n`, `alice password124`, `carol password123`, `alice {x*3000}`} {
		wrong += "x login " + login + " -> Authentication failed. | END\n"
	}
	conversations{
		{"right", `
			alice login alice\n password123\n -> Welcome to the chat server!
			alice > /quit -> Goodbye! | END
			alice login alice\n password123
			alice half-closes
			alice < Welcome to the chat server! | END
			colon login colon\n a:b\x20c:\n -> Welcome to the chat server!`},
		{"right, raw", `
			server passwordPause 1h
			server refusalDelay 1h
			server slowTimeout 1h
			alice login alice password123 -> Welcome to the chat server!
			alice >> /exit
			alice < Goodbye! | END
			colon login colon a:b\x20c: -> Welcome to the chat server!`},
		{"a pause before the password line", `
			server passwordPause 2s
			alice login al
			alice >> i
			alice pauses 100ms
			alice >> ce\n
			alice pauses 2200ms
			alice >> password123\n
			alice < Welcome to the chat server!`},
		{"wrong", wrong},
		{"wrong, and no more will come", `
			x login alice\n
			x half-closes
			x < Authentication failed. | END`},
		{"wrong names and passwords wait alike", `
			server refusalDelay 4s
			a login alice\n wrong\n
			b login carol\n wrong\n
			c login alice\nwrong\n/users\n
			d login alice wrong
			e login carol wrong
			a,b,c,d,e silent 200ms
			a,b,c,d,e < Authentication failed. | END`},
		{"too much for a password does not wait", `
			server passwordPause 1h
			server refusalDelay 1h
			x login alice {x*5000}
			log has WARN login of alice from `},
		{"twice", `
			alice in
			x login alice\n password123\n -> Authentication failed: this user is logged in already. | END
			x login alice\n wrong\n -> Authentication failed. | END
			alice > /users -> Online users (1): alice
			alice > /quit -> Goodbye! | END
			alice in`},
		{"timeout, which ends with the login", `
			server loginTimeout 2s
			server passwordPause 1h
			alice in
			a connects
			a << Enter username:\x20
			b login alice
			c login alice\n
			d login alice\npassw
			e login alice passw
			a,b,c,d,e < Authentication failed: no login within 2 seconds. | END`},
		{"strangers leave nothing behind", `
			server refusalDelay 1h
			x0..x199 connects
			x0..x199 << Enter username:\x20
			x0..x199 half-closes
			x0..x199 < END
			log lacks from`},
	}.play(t, lines)
}

// The last lines arrive, the end is said at once, and the connection is closed in the end.
func TestEnd(t *testing.T) {
	conversations{
		{"much was sent after a wrong password", `
			x connects
			x >> alice\nwrong\n{/users\n*200000}
			x half-closes
			x << Enter username: Enter password: Authentication failed.\n
			x < END`},
		{"much was sent after /quit, and the last lines wait in buffers", `
			alice in
			alice deaf
			alice floods {/users\n*2000}/quit\n{/users\n*200000}
			alice << {Online users (1): alice\n*1200}
			alice pauses 300ms
			alice << {Online users (1): alice\n*800}Goodbye!\n
			alice < END`},
		{"a client that does not close its side", `
			server slowTimeout 200ms
			alice in
			alice > /quit -> Goodbye!
			alice dead`},
		{"all replies come before the end", `
			alice in
			alice >> {/users\n*1000}/users
			alice half-closes
			alice << {Online users (1): alice\n*1001}
			alice < END`},
		{"half a line of a connection that is reset", `
			alice,bob in
			alice >> /msg alice this was read\n/msg bob I do not agr
			alice < [alice]: this was read | Message sent to alice.
			alice resets
			bob < alice has left the chat.`},
	}.play(t, lines)
}

// Nobody can write to a user who has left, but the name is taken until all have heard of it. Here
// u0 does not read, so this takes until u0 is dropped.
func TestLeaving(t *testing.T) {
	conversations{{"with a stuck client", `
		server slowTimeout 4s
		alice,bob,u0 in
		u0 stuck
		alice > /quit -> Goodbye!
		bob < alice has left the chat.
		bob > /msg alice still there? -> Error: alice is not online. Who is: /users
		bob > /users -> Online users (2): bob, u0
		second login alice\n password123\n -> Authentication failed: this user is logged in already. | END
		alice < END
		bob < u0 has left the chat.
		alice in`}}.play(t, lines)
}

// ---- From bytes to messages ---------------------------------------------------------------------

// tooLong is the reply to a message of more than 1024 bytes.
const tooLong = "Error: a message may not be longer than 1024 bytes."

// The bytes of a client that sends newlines are cut into messages at the newlines, and nowhere else.
func TestFramingLines(t *testing.T) {
	conversations{
		{"CRLF, empty lines, CR inside", `
			alice in
			alice >> /users\r\n\r\n\n\x20\n\t\n/msg alice a\rb\n
			alice < Online users (1): alice | [alice]: a\ufffdb | Message sent to alice.`},
		{"long lines", `
			alice in
			alice >> /msg alice {x*1013}\r\n
			alice < [alice]: {x*1013} | Message sent to alice.
			alice >> {0123456789*1048576}\n/users\n
			alice < ` + tooLong + `
			alice < Online users (1): alice`},
	}.play(t, lines)
}

// The bytes of one read from a raw client are one message, or several where a command begins.
func TestFramingRaw(t *testing.T) {
	conversations{
		{"glued", `
			alice in
			alice >> /create_group a/create_group b
			alice < Group a created. | Group b created.
			alice >> /msg alice x/MSG alice y/Users/msg\talice z
			alice < [alice]: x | Message sent to alice. | [alice]: y/Users | Message sent to alice. | [alice]: z
			alice < Message sent to alice.
			alice >> /users/msg alice x
			alice < Online users (1): alice | [alice]: x | Message sent to alice.`},
		{"not glued", `
			alice in
			alice > /msg alice see /msg bob x -> [alice]: see /msg bob x | Message sent to alice.
			alice > /msg alice see\t/msg bob x -> [alice]: see\t/msg bob x | Message sent to alice.
			alice > /msg alice see/msgs -> [alice]: see/msgs | Message sent to alice.
			alice > /msg alice a/users b -> [alice]: a/users b | Message sent to alice.
			alice > /create_group a/users -> Group a/users created.`},
		{"a newline makes it a line client", `
			alice in
			alice >> /users\n/msg alice x/msg alice y\n
			alice < Online users (1): alice | [alice]: x/msg alice y | Message sent to alice.
			alice >> /msg alice half
			alice >> \n
			alice < [alice]: half | Message sent to alice.
			alice gone`},
	}.play(t, raw)
}

// A login and commands come out the same, wherever they are cut in two and however slowly they come.
func TestSplits(t *testing.T) {
	var rows strings.Builder
	for _, stream := range []string{
		"alice\npassword123\n/users\n/msg alice hi\n/quit\n",
		"alice\r\npassword123\r\n/users\r\n/msg alice hi\r\n/quit\r\n",
	} {
		for cut := 1; cut < len(stream); cut++ {
			fmt.Fprintf(&rows, "x login %s %s\n", escape(stream[:cut]), escape(stream[cut:]))
			rows.WriteString("x << Welcome to the chat server!\\nOnline users (1): alice\\n[alice]: hi\\nMessage sent to alice.\\nGoodbye!\\n\nx < END\n")
		}
	}
	slowly := func(pause string) string {
		rows := "server passwordPause 20s\nalice connects\n"
		for _, b := range "alice\npassword123\n/users\n" {
			rows += "alice pauses " + pause + "\nalice >> " + escape(string(b)) + "\n"
		}
		return rows + `alice << Enter username: Enter password: Welcome to the chat server!\nOnline users (1): alice\n`
	}
	conversations{
		{"in two, and a right line does not wait", "server passwordPause 1h\nserver refusalDelay 1h\n" + rows.String()},
		{"1 ms apart", slowly("1ms")},
		{"20 ms apart", slowly("20ms")},
		{"200 ms apart", slowly("200ms")},
	}.play(t, lines)
}

// escape writes a text as the rows of conversations need it.
func escape(text string) string {
	quoted := strconv.QuoteToASCII(text)
	return strings.NewReplacer(`\"`, `"`, " ", `\x20`, "{", `\x7b`).Replace(quoted[1 : len(quoted)-1])
}

// Whatever bytes come, before the login or after it, nobody else hears of them.
func TestGarbage(t *testing.T) {
	random := make([]byte, 100000)
	rand.New(rand.NewSource(1)).Read(random)
	var table conversations
	for _, garbage := range [][2]string{
		{"random bytes", escape(string(random))},
		{"HTTP", `GET / HTTP/1.1\r\nHost: localhost\r\n\r\n`},
		{"TLS", `\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03` + escape(string(random[:500]))},
		{"no newline", `{0123456789*100000}`},
		{"glued commands", `{x/msg bob9*100000}`},
		{"zeros", `{\x00*1000000}`},
	} {
		table = append(table, [2]string{garbage[0] + " before the login", `
			bob in
			x connects
			x floods ` + garbage[1] + `\n\n
			x << Enter username: Enter password: Authentication failed.\n
			x gone`},
			[2]string{garbage[0] + " after the login", `
			bob,alice in
			alice floods ` + garbage[1] + `
			bob > /users -> Online users (2): alice, bob
			alice gone
			bob < alice has left the chat.`})
	}
	table.play(t, lines, raw)
}

// ---- From messages to sockets -------------------------------------------------------------------

// A client that does not read delays those who write to it, once and not for ever, and nobody else.
func TestStuck(t *testing.T) {
	conversations{
		{"others go on", `
			server slowTimeout 5s
			u0..u2,alice,bob,charlie in
			u0..u2 stuck
			charlie > /broadcast hello
			alice,bob < [charlie][Broadcast]: hello
			alice > /msg bob ping -> Message sent to bob.
			bob < [alice]: ping
			alice > /users -> Online users (6): alice, bob, charlie, u0, u1, u2
			charlie until Message sent to 2 users.
			log has WARN u0 from .* dropped
			log has WARN u2 from .* dropped
			alice,bob,charlie gone`},
		{"the lock is free while all wait", `
			server slowTimeout 1h
			u0,alice,bob,charlie,david,eve,u1 in
			u0 > /create_group cs -> Group cs created.
			alice > /join_group cs
			u0 < alice has joined the group cs.
			bob > /join_group cs
			bob > /users
			bob until Online users (7): alice, bob, charlie, david, eve, u0, u1
			alice > /users
			alice until Online users (7): alice, bob, charlie, david, eve, u0, u1
			u0 stuck
			charlie > /msg u0 hi
			david > /broadcast hi
			alice,bob,charlie,eve,u1 < [david][Broadcast]: hi
			alice > /group_msg cs hi
			bob < [alice][Group cs]: hi
			bob > /leave_group cs
			alice < bob has left the group cs.
			eve > /join_group cs
			alice < eve has joined the group cs.
			frank login frank\n letmein\n -> Welcome to the chat server!
			alice,bob,charlie,david,eve,u1 < frank has joined the chat.
			u1 > /create_group new -> Group new created.
			u0..u1,alice,bob,charlie,david,eve gone`},
		{"nobody writes to it any more", `
			server slowTimeout 500ms
			u0,alice in
			u0 deaf
			alice >> {/msg u0 ` + kilo + `\n*100}
			alice << {Message sent to u0.\n*100}
			alice < u0 has left the chat.
			log has WARN u0 from .* dropped`},
		{"asks and never reads", `
			server slowTimeout 500ms
			bob,alice in
			alice deaf
			alice floods {/help\n*10000}
			bob < alice has left the chat.
			log has WARN alice from .* dropped`},
	}.play(t, lines)
}

// pairs returns connected sockets, as two lists.
func pairs(t testing.TB, n int) (near, far []*net.TCPConn) {
	listener, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	for err == nil && len(far) < n {
		var here, there *net.TCPConn
		if here, err = net.DialTCP("tcp", nil, listener.Addr().(*net.TCPAddr)); err == nil {
			there, err = listener.AcceptTCP()
			near, far = append(near, here), append(far, there)
			t.Cleanup(func() { here.Close(); there.Close() })
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	listener.Close()
	return near, far
}

// A server without sockets: clients whose queues hold one line, and that have no writer. They show
// what send does with full queues. queued returns a server and n such clients, whose queues are full.
func queued(t *testing.T, slow time.Duration, n int) (s *server, list []*client) {
	s = newServer(nil, log.New(io.Discard, "", 0))
	s.slowTimeout = slow
	_, far := pairs(t, n)
	for _, conn := range far {
		c := &client{conn: conn, queue: make(chan string, 1), done: make(chan struct{})}
		c.queue <- "fills the queue\n"
		list = append(list, c)
	}
	return s, list
}

// isOpen reports whether the server has not dropped a client.
func isOpen(c *client) bool { return c.conn.SetReadDeadline(time.Time{}) == nil }

// One message waits for all full queues together, and gives up each that stays full, but no other.
func TestFullQueues(t *testing.T) {
	t.Parallel()
	t.Run("all stay full", func(t *testing.T) {
		t.Parallel()
		s, list := queued(t, 200*time.Millisecond, 200) // 40 s, if each were waited for
		began := time.Now()
		n := s.send("waits for room\n", list...)
		if took := time.Since(began); took > patience || n != 0 || slices.ContainsFunc(list, isOpen) {
			t.Errorf("after %v, %d took the line, want none, and all dropped", took, n)
		}
	})
	t.Run("one has room late", func(t *testing.T) {
		t.Parallel()
		const slow = 4 * time.Second
		s, list := queued(t, slow, 3)
		stuck, late, gone := list[0], list[1], list[2]
		time.AfterFunc(slow*5/8, func() { <-late.queue; close(gone.done) })
		if n := s.send("waits for room\n", list...); n != 1 || isOpen(stuck) || !isOpen(late) || !isOpen(gone) {
			t.Errorf("%d took the line, want 1; dropped: stuck %v, late %v, gone %v", n, !isOpen(stuck), !isOpen(late), !isOpen(gone))
		}
	})
	t.Run("one is always full and moves on", func(t *testing.T) {
		t.Parallel()
		const slow = 2 * time.Second
		s, list := queued(t, slow, 2)
		stuck, busy := list[0], list[1]
		go func() { // somebody else keeps its queue full
			for s.send("from somebody else\n", busy) == 1 {
			}
		}()
		go func() { // and its writer takes a line from time to time
			defer close(busy.done)
			for range 40 { // twice as long as send may wait
				time.Sleep(slow / 20)
				<-busy.queue
			}
		}()
		if n := s.send("waits for room\n", list...); n != 1 || isOpen(stuck) || !isOpen(busy) {
			t.Errorf("%d took the line, want the busy one alone; dropped: stuck %v, busy %v", n, !isOpen(stuck), !isOpen(busy))
		}
	})
}

// A slow connection reads a quarter of a megabyte in a second.
type slow struct{ net.Conn }

// Read waits, and then reads.
func (s slow) Read(b []byte) (int, error) {
	time.Sleep(100 * time.Millisecond) // not in order to wait: this is what makes it slow
	return s.Conn.Read(b)
}

// A client that reads slowly, but without a pause, is not dropped, and gets all lines in order.
func TestSlowReader(t *testing.T) {
	t.Parallel()
	for _, what := range []string{"messages", "lists"} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			c := converse(t, lines, `
				server slowTimeout 2500ms
				alice,bob in`)
			c.here = nil // no fences: bob does not read to the end
			alice, bob := c.peers["alice"], c.peers["bob"]
			bob.conn.SetReadBuffer(32 << 10)
			bob.in = bufio.NewReaderSize(slow{bob.conn}, 25000)
			if what == "messages" {
				go io.Copy(io.Discard, alice.in)
				go func() {
					for i := range 8000 {
						fmt.Fprintf(alice.conn, "/msg bob %04d %s\n", i, kilo)
					}
				}()
				for i := range 900 {
					bob.hear(fmt.Sprintf("[alice]: %04d %s\n", i, kilo))
				}
				c.play("log lacks dropped")
				return
			}
			long := strings.Repeat(kilo, 1000)
			c.server.mu.Lock()
			c.groups["all"] = clients{long: &client{name: long}}
			c.server.mu.Unlock()
			bob.send("/groups_users\n")
			bob.hear("Groups (1):\n  all (1): " + long + "\n")
			c.play("log lacks dropped")
		})
	}
}

// A reply is queued line by line, so a client that does not read cannot make the server hold 256 long replies.
func TestLongList(t *testing.T) {
	s := newServer(nil, nil)
	alice := &client{queue: make(chan string, 100)}
	s.chat(alice, &messageReader{input: bufio.NewReader(strings.NewReader("/help\n"))})
	if len(alice.queue) != len(s.commands) {
		t.Errorf("%d entries are in the queue, want one for each of %d lines", len(alice.queue), len(s.commands))
	}
}

// ---- Commands -----------------------------------------------------------------------------------

// What works. Raw clients hear the same as clients that send newlines.
func TestConversations(t *testing.T) {
	conversations{
		{"private", `
			alice,bob in
			alice > /msg bob hello, bob -> Message sent to bob.
			bob < [alice]: hello, bob
			bob > /msg alice hello! -> Message sent to alice.
			alice < [bob]: hello!
			alice > /msg alice for me -> [alice]: for me | Message sent to alice.`},
		{"the case of the word, spaces, tabs", `
			alice,bob in
			alice > /MsG   bob   two  spaces,\ta tab.\x20 -> Message sent to bob.
			bob < [alice]: two  spaces,\ta tab.\x20
			alice > \t/msg\tbob\t/quit -> Message sent to bob.
			bob < [alice]: /quit
			alice > \x20\t\x20
			alice > /USERS \t -> Online users (2): alice, bob`},
		{"broadcast", `
			alice in
			alice > /broadcast anybody? -> Message sent to 0 users.
			bob in
			alice > /broadcast hello -> Message sent to 1 user.
			bob < [alice][Broadcast]: hello
			charlie in
			bob > /broadcast hello all -> Message sent to 2 users.
			alice,charlie < [bob][Broadcast]: hello all`},
		{"group", `
			alice,bob,charlie in
			alice > /create_group cs -> Group cs created.
			alice > /group_msg cs alone? -> Message sent to group cs (0 members).
			bob > /join_group cs -> You joined the group cs.
			alice < bob has joined the group cs.
			bob > /join_group cs -> You joined the group cs.
			alice > /group_msg cs hi -> Message sent to group cs (1 member).
			bob < [alice][Group cs]: hi
			charlie > /join_group cs -> You joined the group cs.
			alice,bob < charlie has joined the group cs.
			charlie > /group_msg cs hi, two -> Message sent to group cs (2 members).
			alice,bob < [charlie][Group cs]: hi, two
			bob > /leave_group cs -> You left the group cs.
			alice,charlie < bob has left the group cs.
			alice > /group_msg cs bye -> Message sent to group cs (1 member).
			charlie < [alice][Group cs]: bye
			alice > /leave_group cs -> You left the group cs.
			charlie < alice has left the group cs.
			charlie > /leave_group cs -> You left the group cs.
			alice > /groups_users -> Groups (0):
			alice > /create_group cs -> Group cs created.`},
		{"groups of a member who quits", `
			alice,bob in
			bob > /create_group cs -> Group cs created.
			bob > /quit -> Goodbye! | END
			alice < bob has left the chat.
			alice > /create_group cs -> Group cs created.`},
		{"groups of a member whose connection ends", `
			alice,bob in
			bob > /create_group cs -> Group cs created.
			bob > /create_group both -> Group both created.
			alice > /join_group both -> You joined the group both.
			bob < alice has joined the group both.
			bob gone
			alice < bob has left the chat.
			alice > /users -> Online users (1): alice
			alice > /groups_users -> Groups (1): |   both (1): alice
			alice > /create_group cs -> Group cs created.`},
		{"lists are sorted", `
			charlie,alice,bob in
			bob > /users -> Online users (3): alice, bob, charlie
			charlie > /create_group zoo -> Group zoo created.
			bob > /create_group ark -> Group ark created.
			alice > /join_group zoo -> You joined the group zoo.
			charlie < alice has joined the group zoo.
			bob > /groups_users -> Groups (2): |   ark (1): bob |   zoo (2): alice, charlie`},
		{"leaving and coming back", `
			alice,bob in
			bob > /exit -> Goodbye! | END
			alice < bob has left the chat.
			alice > /msg bob there? -> Error: bob is not online. Who is: /users
			bob in
			alice > /msg bob there? -> Message sent to bob.
			bob < [alice]: there?`},
		{"nobody can forge a line", `
			alice,bob in
			alice > /msg bob x\x1b[2J\x07\r\x7f\u0085y -> Message sent to bob.
			bob < [alice]: x\ufffd[2J\ufffd\ufffd\ufffd\ufffdy
			alice > /broadcast \xff\xfez -> Message sent to 1 user.
			bob < [alice][Broadcast]: \ufffd\ufffdz
			alice > /msg bob a\u2028b\u2029c\u202ed\u2066e\u061cf\u200eg\u200fh -> Message sent to bob.
			bob < [alice]: a\ufffdb\ufffdc\ufffdd\ufffde\ufffdf\ufffdg\ufffdh
			alice > /msg bob \u200b\ufeff\u00a0👩\u200d🔬 -> Message sent to bob.
			bob < [alice]: \u200b\ufeff\u00a0👩\u200d🔬
			alice > /msg b\x00b x -> Error: b\ufffdb is not online. Who is: /users`},
		{"the limits themselves", `
			alice,bob in
			alice > /create_group {x*64} -> Group {x*64} created.
			alice > /msg bob {y*1015} -> Message sent to bob.
			bob < [alice]: {y*1015}
			alice > /msg bob {\xff*1015} -> Message sent to bob.
			bob < [alice]: {\ufffd*1015}`},
		{"help", `
			alice in
			alice > /help -> /msg <username> <message> - write to one user
			alice < /broadcast <message> - write to all who are online
			alice < /create_group <group> - start a group, with you in it | /join_group <group> - become a member
			alice < /leave_group <group> - leave it; it ends with its last member
			alice < /group_msg <group> <message> - write to the other members | /users - who is online
			alice < /groups_users - all groups and who is in them | /help - this list | /quit - leave the chat
			alice < /exit - the same`},
	}.play(t, lines, raw)
}

// Refusals, to the letter. The session goes on, and nobody else hears of it.
func TestRefusals(t *testing.T) {
	const (
		badName = "Error: not a name for a group: 64 bytes at most, no brackets, no invisible characters."
		missing = " is not a command. To write to all: /broadcast <message>. More: /help"
	)
	conversations{
		{"unknown commands", `
			alice in
			alice > /whoami -> Error: /whoami` + missing + `
			alice > / -> Error: /` + missing + `
			alice > hello, world -> Error: hello,` + missing + `
			alice > /msgbob hi -> Error: /msgbob` + missing},
		{"usage", `
			alice,bob in
			bob > /create_group cs -> Group cs created.
			alice > /msg -> Error: usage: /msg <username> <message>
			alice > /msg bob -> Error: usage: /msg <username> <message>
			alice > /msg bob\x20\x20 -> Error: usage: /msg <username> <message>
			alice > /broadcast -> Error: usage: /broadcast <message>
			alice > /create_group -> Error: usage: /create_group <group>
			alice > /create_group a b -> Error: usage: /create_group <group>
			alice > /join_group -> Error: usage: /join_group <group>
			alice > /join_group cs b -> Error: usage: /join_group <group>
			alice > /leave_group cs b -> Error: usage: /leave_group <group>
			alice > /group_msg -> Error: usage: /group_msg <group> <message>
			alice > /group_msg cs -> Error: usage: /group_msg <group> <message>
			alice > /users all -> Error: usage: /users
			alice > /groups_users x -> Error: usage: /groups_users
			alice > /help me -> Error: usage: /help
			alice > /quit now -> Error: usage: /quit
			alice > /exit now -> Error: usage: /exit`},
		{"users", `
			alice,bob in
			alice > /msg carol hi -> Error: carol is not online. Who is: /users
			alice > /msg charlie hi -> Error: charlie is not online. Who is: /users
			alice > /msg Bob hi -> Error: Bob is not online. Who is: /users`},
		{"groups", `
			alice,bob in
			bob > /create_group cs -> Group cs created.
			alice > /join_group no -> Error: group no does not exist. To start it: /create_group no
			alice > /join_group Cs -> Error: group Cs does not exist. To start it: /create_group Cs
			alice > /leave_group no -> Error: group no does not exist. To start it: /create_group no
			alice > /group_msg no hi -> Error: group no does not exist. To start it: /create_group no
			alice > /leave_group cs -> Error: you are not a member of group cs. To join it: /join_group cs
			alice > /group_msg cs hi -> Error: you are not a member of group cs. To join it: /join_group cs
			alice > /create_group cs -> Error: group cs exists already. To join it: /join_group cs
			bob > /group_msg cs still mine? -> Message sent to group cs (0 members).`},
		{"names of groups", `
			alice in
			alice > /create_group [x -> ` + badName + `
			alice > /create_group x] -> ` + badName + `
			alice > /create_group a\x1b -> ` + badName + `
			alice > /create_group \u200b -> ` + badName + `
			alice > /create_group a\u00a0b -> ` + badName + `
			alice > /create_group x\xff -> ` + badName + `
			alice > /create_group {x*65} -> ` + badName},
		{"long messages", `
			alice,bob in
			alice > /msg bob {x*1016} -> ` + tooLong + `
			alice > {x*3000} -> ` + tooLong},
	}.play(t, lines, raw)
}

// ---- Many at once -------------------------------------------------------------------------------

// Of many who want the same thing at the same time, one gets it. Each is welcomed before it hears of others.
func TestAtOnce(t *testing.T) {
	t.Parallel()
	c := converse(t, lines, "")
	first := make(chan string)
	const n = 200
	for i := range n { // 100 log in as alice, and 100 as themselves
		login := "alice\npassword123\n"
		if i%2 == 1 {
			login = fmt.Sprintf("u%d\np%d\n", i, i)
		}
		p := c.connect(fmt.Sprint("x", i))
		go func() {
			io.WriteString(p.conn, login)
			line, _ := p.in.ReadString('\n')
			first <- line
		}()
	}
	answers := map[string]int{}
	for range n {
		line, _ := strings.CutPrefix(<-first, "Enter username: Enter password: ")
		answers[line]++
	}
	if answers["Welcome to the chat server!\n"] != 101 ||
		answers["Authentication failed: this user is logged in already.\n"] != 99 {
		t.Errorf("the answers to 200 logins were %v", answers)
	}

	c = converse(t, lines, "u0..u49 in")
	for _, p := range c.peers {
		go io.WriteString(p.conn, "/create_group cs\n")
	}
	answers = map[string]int{}
	for _, p := range c.peers {
		answers[p.line()]++
	}
	if answers["Group cs created."] != 1 || answers["Error: group cs exists already. To join it: /join_group cs"] != 49 {
		t.Errorf("the answers to 50 creations were %v", answers)
	}
}

// In a storm of logins, groups, resets and goodbyes, alice hears each user join and leave in turn. After
// it, nothing is left, and when the server stops, nobody can connect. This test is not parallel, because
// it counts what the process has open.
func TestLives(t *testing.T) {
	c := converse(t, lines, "alice in")
	alice := c.peers["alice"]
	open := func() int {
		entries, _ := os.ReadDir("/proc/self/fd") // zero, where there is no /proc
		return len(entries)
	}
	goroutines, descriptors := runtime.NumGoroutine()-2, max(0, open()-2) // without alice's
	const users, lives = 20, 50
	var wg sync.WaitGroup
	for u := range users {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for life := 0; life < lives && !t.Failed(); life++ {
				live(t, c.addr, u, life%2 == 0)
			}
		}()
	}
	t.Cleanup(wg.Wait) // a test that fails must not end before them
	go func() { wg.Wait(); io.WriteString(alice.conn, "/users\n") }()
	in, events := map[string]bool{}, 0
	for _, line := range alice.hearUntil("Online users (1): alice") {
		who, what, _ := strings.Cut(line, " ")
		joins, leaves := what == "has joined the chat.", what == "has left the chat."
		if in[who] && joins || !in[who] && leaves {
			t.Errorf("%q, but it was so before", line)
		}
		if joins || leaves {
			in[who] = joins
			events++
		}
	}
	if events != 2*users*lives {
		t.Errorf("users joined and left %d times, want %d", events, 2*users*lives)
	}
	c.play(`
		alice > /groups_users -> Groups (0):
		alice > /quit -> Goodbye! | END`)
	c.row = fmt.Sprintf("there are %d goroutines and %d descriptors again", goroutines, descriptors)
	c.until(func() bool {
		return runtime.NumGoroutine() <= goroutines && open() <= descriptors
	})
	c.stop()
	if _, err := net.Dial("tcp", c.addr); err == nil {
		t.Error("the server has stopped, but somebody listens at its address")
	}
	c.row = "serve ends, too"
	c.until(func() bool { return runtime.NumGoroutine() < goroutines })
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	if len(c.groups)+len(c.online)+len(c.taken) != 0 {
		t.Errorf("left are: groups %v, online %v, names %v", c.groups, c.online, c.taken)
	}
}

// live is a life of user u: login, again if the last life is not over, groups, and a reset or a goodbye.
func live(t *testing.T, addr string, u int, reset bool) {
	end := regexp.MustCompile(`Groups \(|logged in already`)
	for late := time.Now().Add(patience); time.Now().Before(late); {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Error(err)
			return
		}
		conn.SetDeadline(time.Now().Add(patience))
		fmt.Fprintf(conn, "u%d\np%d\n/create_group g%d\n/join_group all\n/create_group all\n/broadcast hi\n/groups_users\n", u, u, u)
		in, text := bufio.NewReader(conn), ""
		for err == nil && !end.MatchString(text) {
			var line string
			line, err = in.ReadString('\n')
			text += line
		}
		if err != nil {
			t.Errorf("u%d: %v after %.300q", u, err, text)
			return
		}
		if reset {
			conn.(*net.TCPConn).SetLinger(0)
		} else {
			io.WriteString(conn, "/quit\n")
			io.Copy(io.Discard, in)
		}
		conn.Close()
		if !strings.Contains(text, "logged in already") {
			return
		}
	}
	t.Errorf("u%d cannot log in again", u)
}

// ---- Fuzzing ------------------------------------------------------------------------------------
//
// Both run their seeds with the tests. To look for more, see TESTING.md.

// FuzzFraming: however the stream of a line client is cut, its messages are what lies between the newlines.
func FuzzFraming(f *testing.F) {
	for _, stream := range []string{"alice\npassword123\n/users\n", "a\r\nb\r\r\n\r\n\nc", "a\n\r",
		strings.Repeat("x", 1024) + "\r\n" + strings.Repeat("y", 1025) + "\n",
		strings.Repeat("x", 9000) + "\nend", strings.Repeat("x", 8*maxMessage)} {
		f.Add(stream)
	}
	f.Fuzz(func(t *testing.T, stream string) {
		for _, cut := range []func(io.Reader) io.Reader{iotest.DataErrReader, iotest.HalfReader, iotest.OneByteReader} {
			input := bufio.NewReaderSize(cut(strings.NewReader(stream)), maxRead)
			in := &messageReader{input: input, lines: true}
			for i, line := range strings.SplitAfter(stream, "\n") {
				want := strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r")
				got, err := in.next()
				bothTooLong := len(want) > maxMessage && len(got) > maxMessage
				if got != want && !bothTooLong {
					t.Fatalf("message %d is %q (%v), want %q", i, got, err, want)
				}
				if last := !strings.HasSuffix(line, "\n"); last != (err == io.EOF) {
					t.Fatalf("message %d comes with the error %v; it is the last: %v", i, err, last)
				}
			}
		}
	})
}

// FuzzCommand: whatever the message, all that anybody gets are lines of clean text that begin with what
// the server wrote.
func FuzzCommand(f *testing.F) {
	for _, cmd := range newServer(nil, nil).commands {
		f.Add(cmd.word + " bob hello")
		f.Add(strings.ToUpper(cmd.word) + "\tcs\x1b[2J\xff")
		f.Add(cmd.word)
	}
	f.Fuzz(func(t *testing.T, message string) {
		s := newServer(nil, log.New(io.Discard, "", 0))
		for _, name := range []string{"alice", "bob"} {
			s.online[name] = &client{name: name, queue: make(chan string, 30), conn: new(net.TCPConn)}
		}
		alice, bob := s.online["alice"], s.online["bob"]
		s.groups["cs"] = clients{"alice": alice, "bob": bob}
		reply, _ := s.execute(alice, message)
		s.send(reply+"\n", alice)
		for _, c := range []*client{alice, bob} {
			for len(c.queue) > 0 {
				line := <-c.queue
				unclean := func(r rune) bool { return unicode.IsControl(r) && r != '\t' && r != '\n' }
				if !strings.HasSuffix(line, "\n") || !utf8.ValidString(line) || strings.ContainsFunc(line, unclean) {
					t.Fatalf("%s gets %q, which is no line of clean UTF-8", c.name, line)
				}
				ours := strings.HasPrefix(line, "[alice]") || strings.HasPrefix(line, "alice has ")
				if c == bob && (strings.Count(line, "\n") != 1 || !ours) {
					t.Fatalf("bob gets %q", line)
				}
			}
		}
	})
}

// ---- Grading: the 37 cases of the assignment, for this server or any other ----------------------
//
// Without flags, each case gets a server of this package. With -exec, a server in any language is
// started afresh for each case. With -addr, all cases are played with one that runs already.
// TESTING.md tells how to use the flags.
//
// The marks come from playing each case as the course did: a driver types lines into terminals, one
// every few milliseconds. The client in each terminal sends every line at once, without a newline.
// Before the driver goes on to another terminal, it waits a moment for an answer. In one terminal it
// types on without waiting. A case that fails is played once more at leisure: then the driver waits
// after each line. A server that passes only then is right, but takes all that one read brings for
// one message.

var (
	gradeAddr   = flag.String("addr", "", "TestAssignment: grade the server that runs at this `address`")
	gradeExec   = flag.String("exec", "", "TestAssignment: start the server with this shell `command` for each case")
	gradeDir    = flag.String("dir", ".", "TestAssignment: the `folder` that -exec runs in; a pattern grades many")
	gradeUsers  = flag.String("users", "", "TestAssignment: the `file` of at least 100 users that the server shall use")
	gradeReport = flag.String("report", "", "TestAssignment: a `folder` for grades.csv and a report on each submission")
)

// How long the grader waits.
const (
	stepPause  = 10 * time.Millisecond  // between two steps of the driver
	hurryPause = time.Millisecond       // the same in the stress cases
	startTime  = 10 * time.Second       // for a server to accept its first client, and to say something
	answerTime = 250 * time.Millisecond // for the answer to a line, and for what should not come
	silence    = 2 * time.Second        // when nothing has come for so long, nothing more is waited for
	caseTime   = time.Minute            // for all of a case
	portTime   = 70 * time.Second       // for the port of a server that has ended to be free again
)

// A gradedCase is one case: its steps and its checks, divided by semicolons. The steps:
//
//	1 in            terminal 1 starts a client, and name and password of the first user are typed
//	5 opens         terminal 5 starts a client; nothing is typed
//	1: /users       the line is typed into terminal 1; "1: a & b" types two lines
//	1 awaits CS425  the driver waits until terminal 1 has shown CS425, or nothing more comes
//	all hurry       from here on, steps follow faster, and without waiting for an answer
//
// and the checks:
//
//	1,2 has T1 T2   terminals 1 and 2 have both shown the texts T1 and T2
//	1 lacks T1      terminal 1 has not
//	5 counts 2 left terminal 5 shows two lines with "left"
//
// A # is the number of the terminal. u1 and p1 are name and password of the first user, T1 is a text
// of several words, and REFUSAL is any of the words fail, error, exist, not. Upper and lower case
// count the same.
type gradedCase struct {
	name          string
	marks         float64 // none: it is a remark, which the assignment implies but the course did not check
	steps, checks string
}

// Parts that several cases share.
const (
	oneGroup   = "1 in; 1: /create_group CS427; 1 awaits CS427; "
	twoGroups  = oneGroup + "2 in; 2: /create_group CS428; 2 awaits CS428; "
	fourGroups = twoGroups + "3 in; 3: /create_group CS429; 3 awaits CS429; 4 in; 4: /create_group CS430; 4 awaits CS430; 5 in; "
	joinFour   = ": /join_group CS427 & /join_group CS428 & /join_group CS429 & /join_group CS430"
	groupOf4   = "1 awaits CS425; 2,3,4: /join_group CS425; "
	toThree    = "1: /msg u2 T1 & /msg u3 T2 & /msg u4 T3"
	fourTexts  = "2: /group_msg CS427 T1 & /group_msg CS427 T2 & /group_msg CS427 T3 & /group_msg CS427 T4"
)

// assignment returns the cases.
func assignment() []gradedCase {
	return []gradedCase{
		{"01_auth_valid_login", 1, "1 in", "1 has Welcome"},
		{"02_auth_wrong_login", 1, "1 opens; 1: u1 & wrong", "1 has failed"},
		{"03_msg_to_user_offline", 1, "1 in; 1: /msg u9 T1", "1 has no"},
		{"04_msg_to_user_online", 1, "1,2 in; 1: /msg u2 T1", "2 has T1"},
		{"05_broadcast_by_one", 1, "1..4 in; 1: /broadcast T1", "2,3,4 has T1"},
		{"06_group_create", 1, "1 in; 1: /create_group IITK", "1 has creat"},
		{"07_group_create_twice", 1, "1 in; 1: /create_group IITK & /create_group IITK", "1 has welcome REFUSAL"},
		{"08_group_join", 1, "1,2 in; 1: /create_group CS425; 1 awaits CS425; 2: /join_group CS425", "2 has join"},
		{"09_group_join_missing", 1, "1,2 in; 1: /create_group CS425; 2: /join_group CS888", "2 has welcome REFUSAL"},
		{"10_group_msg", 1, "1,2 in; 1: /create_group CS425; 1 awaits CS425; 2: /join_group CS425; 2 awaits join; 1: /group_msg CS425 T1", "2 has T1"},
		{"11_group_msg_missing", 1, "1,2 in; 1: /create_group CS425 & /group_msg CS888 T1", "1 has welcome REFUSAL"},
		{"12_group_leave", 1, "1,2 in; 1: /create_group CS425; 1 awaits CS425; 2: /join_group CS425 & /leave_group CS425", "2 has left"},
		{"13_group_msg_after_leave", 1, "1,2 in; 1: /create_group CS425; 1 awaits CS425; " +
			"2: /join_group CS425 & /leave_group CS425 & /group_msg CS425 T1", "2 has welcome REFUSAL"},
		{"14_auth_exit_and_return", 1.5, "1,2 in; 1: /msg u2 T1; 2: /exit; 3 in; 4 opens; 4: u2 & p2; 1: /msg u2 T2", "4 has welcome T2"},
		{"15_msg_to_three", 1.5, "1..4 in; " + toThree, "2 has welcome T1; 3 has welcome T2; 4 has welcome T3"},
		{"16_msg_chain", 1.5, "1..4 in; 1: /msg u2 T1; 2: /msg u3 T2; 3: /msg u4 T3; 4: /msg u1 T4",
			"1..4 has welcome; 2 has T1; 3 has T2; 4 has T3; 1 has T4"},
		{"17_msg_both_ways", 1.5, "1,2 in; 1: /msg u2 T1; 2: /msg u1 T2", "2 has welcome T1; 1 has welcome T2"},
		{"18_broadcast_while_users_come_and_go", 1.5, "1..4 in; 1: /broadcast T1; 5 in; 1: /broadcast T2 & /exit; 2: /broadcast T3",
			"1..4 has welcome; 2,3,4 has T1; 2..5 has T2; 3,4,5 has T3; 1 lacks T3"},
		{"19_broadcast_by_four", 1.5, "1..4 in; 1: /broadcast T1; 2: /broadcast T2; 3: /broadcast T3; 4: /broadcast T4",
			"1..4 has welcome; 2,3,4 has T1; 1,3,4 has T2; 1,2,4 has T3; 1,2,3 has T4"},
		{"20_group_create_four", 1.5, "1..4 in; 1" + strings.ReplaceAll(joinFour, "join", "create"), "1 has welcome CS427 CS428 CS429 CS430"},
		{"21_group_create_by_three", 1.5, "1..4 in; 1: /create_group CS425 & /create_group CS426; " +
			"2: /create_group CS427 & /create_group CS428; 3: /create_group CS429 & /create_group CS430",
			"1 has welcome CS425 CS426; 2 has CS427 CS428; 3 has CS429 CS430"},
		{"22_group_join_four", 1.5, "1..4 in; 2: /create_group CS427 & /create_group CS428; 3: /create_group CS429 & /create_group CS430; " +
			"2 awaits CS428; 3 awaits CS430; 1" + joinFour, "1 has welcome CS427 CS428 CS429 CS430"},
		{"23_group_join_by_four", 1.5, oneGroup + "2..5 in; 2..5: /join_group CS427", "1..5 has welcome; 2..5 has CS427"},
		{"24_group_msg_by_stranger", 1.5, oneGroup + "2..5 in; " + fourTexts, "1..5 has welcome; 1 has CS427; 1 lacks T1 T2 T3 T4"},
		{"25_group_msg_by_member", 1.5, oneGroup + "2..5 in; 2: /join_group CS427; " + fourTexts, "1..5 has welcome; 1 has CS427 T1 T2 T3 T4"},
		{"26_group_msg_to_four", 1.5, twoGroups + "3 in; 3: /create_group CS429; 4 in; 4: /create_group CS430; 5 in; 5" + joinFour +
			" & /group_msg CS427 T1 & /group_msg CS428 T2 & /group_msg CS429 T3 & /group_msg CS430 T4",
			"1..5 has welcome; 1 has CS427 T1; 2 has CS428 T2; 3 has CS429 T3; 4 has CS430 T4"},
		{"27_group_msg_by_four", 1.5, fourGroups + "2..5: /join_group CS427; 2: /group_msg CS427 T1; 3: /group_msg CS427 T2; " +
			"4: /group_msg CS427 T3; 5: /group_msg CS427 T4", "1..5 has welcome; 1 has CS427 T1 T2 T3 T4"},
		{"28_group_leave_two_of_four", 1.5, fourGroups + "5" + joinFour + " & /leave_group CS427 & /leave_group CS428",
			"1..5 has welcome; 1 has CS427; 5 counts 2 left"},
		{"29_group_leave_by_four", 1.5, fourGroups + "2..5: /join_group CS427; 2..5: /leave_group CS427", "1..5 has welcome; 1 has CS427; 2..5 has left"},
		{"30_group_leave_two_groups", 1.5, fourGroups + "2,3: /join_group CS427; 4,5: /join_group CS428; 2,3: /leave_group CS427; " +
			"4,5: /leave_group CS428", "1..5 has welcome; 1 has CS427; 2..5 has left"},
		{"31_mixed_msg_and_broadcast", 2.5, "1 in; 1: /create_group CS427; 2 in; 2: /create_group CS428; 3 in; 3: /create_group CS429; " +
			"4 in; 4: /create_group CS430; " + toThree + "; 2: /broadcast T4", "1..4 has welcome; 2 has T1; 3 has T2; 4 has T3; 1,3,4 has T4"},
		{"32_mixed_msg_then_group", 2.5, "1..4 in; " + toThree + " & /create_group CS425; " + groupOf4 +
			"2: /group_msg CS425 T4 & /leave_group CS425",
			"1..4 has welcome; 1 has CS425; 2 has T1; 3 has T2; 4 has T3; 2,3,4 has join; 1,3,4 has T4; 2 has left"},
		{"33_mixed_broadcast_then_group", 2.5, "1..4 in; 1: /broadcast T1 & /create_group CS425; " + groupOf4 +
			"2: /group_msg CS425 T2 & /leave_group CS425",
			"1..4 has welcome; 1 has CS425; 2,3,4 has T1 join; 1,3,4 has T2; 2 has left"},
		{"34_mixed_group_with_msg", 2.5, "1..4 in; 1: /create_group CS425; 2,3,4: /join_group CS425; 4 awaits join; " + toThree +
			"; 2: /group_msg CS425 T4 & /leave_group CS425",
			"1..4 has welcome; 1 has CS425; 2 has T1; 3 has T2; 4 has T3; 2,3,4 has join; 1,3,4 has T4; 2 has left"},
		{"35_mixed_broadcast_with_wrong_join", 2.5, "1..4 in; 1: /create_group CS425; 1 awaits CS425; 2: /broadcast T1; " +
			"3: /join_group CS888; 2: /broadcast T2; 3: /join_group CS425; 2: /broadcast T3",
			"1..4 has welcome; 1 has CS425; 1,3,4 has T1 T2 T3; 3 has join REFUSAL"},
		thousandGroups(),
		fiftyLeave(),
		{"remark_no_second_login", 0, "1 in; 1 awaits welcome; 2 opens; 2: u1 & p1", "1 has welcome; 2 lacks welcome"},
		{"remark_no_own_broadcast", 0, "1,2 in; 1: /broadcast T1", "2 has T1; 1 lacks T1"},
		{"remark_no_own_group_msg", 0, "1,2 in; 1: /create_group CS425; 1 awaits CS425; 2: /join_group CS425; 2 awaits join; 1: /group_msg CS425 T1",
			"2 has T1; 1 lacks T1"},
	}
}

// thousandGroups returns the case in which two users create 1,000 groups each, and join each other's.
func thousandGroups() gradedCase {
	steps, joins, checks := "1..4 in; all hurry", "", "1,2 has welcome"
	last := map[int]string{}                                   // the group that each of the two creates last
	for _, i := range rand.New(rand.NewSource(1)).Perm(2000) { // in any order, but the same each time
		user := 1 + i%2
		last[user] = fmt.Sprintf("CS_u%d_%d", user, i/2)
		steps += fmt.Sprintf("; %d: /create_group %s", user, last[user])
	}
	for k := range 1000 {
		joins += fmt.Sprintf("; 1: /join_group CS_u2_%d; 2: /join_group CS_u1_%d", k, k)
		checks += fmt.Sprintf("; 1 has CS_u2_%d; 2 has CS_u1_%d", k, k)
	}
	steps += "; 1 awaits " + last[1] + "; 2 awaits " + last[2] + joins
	return gradedCase{"36_stress_1000_groups_each", 4.5, steps, checks + "; 1,2 lacks REFUSAL"}
}

// fiftyLeave returns the case in which 50 users leave while 50 others log in.
func fiftyLeave() gradedCase {
	steps := "1..50 in; 51..100 opens; 51..100: u#; all hurry"
	for _, i := range rand.New(rand.NewSource(1)).Perm(100) {
		if i < 50 {
			steps += fmt.Sprintf("; %d: /exit", i+1)
		} else {
			steps += fmt.Sprintf("; %d: p#", i+1)
		}
	}
	steps += "; 51..100 awaits welcome"
	for i := 52; i <= 100; i++ {
		steps += fmt.Sprintf("; %d: /msg u%d T%d", i-1, i, i)
	}
	return gradedCase{"37_stress_50_leave_50_come", 4.5, steps, "52..100 has T#"}
}

// A step is one step or one check, of one terminal.
type step struct{ terminal, verb, text string }

// expand takes steps or checks apart: "2,3: a & b" are four steps, "1 has x y" are two checks.
func expand(text string) (steps []step) {
	for _, part := range strings.Split(text, "; ") {
		names, what, _ := strings.Cut(part, " ")
		verb, rest, _ := strings.Cut(what, " ")
		texts := []string{rest}
		names, typed := strings.CutSuffix(names, ":")
		switch {
		case typed:
			verb, texts = "types", strings.Split(what, " & ")
		case verb == "has", verb == "lacks":
			texts = strings.Fields(rest)
		}
		for _, name := range each(names) {
			if verb == "in" {
				steps = append(steps, expand(name+" opens; "+name+": u# & p#")...)
				continue
			}
			for _, text := range texts {
				steps = append(steps, step{name, verb, strings.ReplaceAll(text, "#", name)})
			}
		}
	}
	return steps
}

// A performance is one case while it is played.
type performance struct {
	addr      string
	users     [][2]string // name and password of user 1, 2, ...
	suffix    string      // of the groups' names, if the server knows groups of earlier cases
	leisure   bool
	server    *process  // nil if the grader has not started it
	late      time.Time // when it has taken too long
	started   bool      // the server has said something to the first client
	terminals map[string]*terminal
}

// A terminal is a client that behaves as the course's does, and what it has shown.
type terminal struct {
	output
	conn   *net.TCPConn
	queue  chan string // what was typed
	typed  int         // lines; only the driver uses it
	sent   int         // lines; like sentAt, guarded by the mutex of output
	sentAt time.Time
}

// play plays a case and returns what is wrong, or an empty string.
func (p *performance) play(c gradedCase) (problem string) {
	p.terminals, p.late = map[string]*terminal{}, time.Now().Add(startTime)
	defer p.end()
	pause, before := stepPause, (*terminal)(nil)
	for _, s := range expand(c.steps) {
		t := p.terminals[s.terminal]
		if p.leisure || (t != before && pause == stepPause) {
			p.waitFor(answerTime, before.answered)
		}
		time.Sleep(pause) // not in order to wait: nobody types faster
		switch s.verb {
		case "hurry":
			pause = hurryPause
		case "opens":
			if err := p.open(s.terminal); err != nil {
				return err.Error()
			}
		case "types":
			t.typed++
			t.queue <- p.words(s.text)
		case "awaits":
			p.waitFor(silence, func() bool { return p.holds(step{s.terminal, "has", s.text}) })
		}
		before = p.terminals[s.terminal]
		if time.Now().After(p.late) {
			return "the case took more than " + caseTime.String()
		}
	}
	for _, check := range expand(c.checks) {
		if check.verb != "has" {
			p.waitFor(answerTime, func() bool { return false }) // for what should not come
		}
		if !p.waitFor(silence, func() bool { return p.holds(check) }) {
			return fmt.Sprintf("terminal %s %s %s: not so. It shows:\n%s", check.terminal, check.verb,
				p.words(check.text), lastLines(p.terminals[check.terminal].String()))
		}
	}
	return ""
}

// waitFor waits until ok. It gives up when nothing has come for a while, and when the case has taken too long.
func (p *performance) waitFor(quiet time.Duration, ok func() bool) bool {
	last := time.Now()
	for !ok() {
		for _, t := range p.terminals {
			t.mu.Lock()
			if t.last.After(last) {
				last = t.last
			}
			t.mu.Unlock()
		}
		if time.Since(last) > quiet || time.Now().After(p.late) {
			return false
		}
		time.Sleep(time.Millisecond)
	}
	return true
}

// holds reports whether a check holds now.
func (p *performance) holds(check step) bool {
	shown, wanted := strings.ToLower(p.terminals[check.terminal].String()), strings.ToLower(p.words(check.text))
	switch {
	case check.verb == "counts":
		number, word, _ := strings.Cut(wanted, " ")
		lines := regexp.MustCompile(".*"+word+".*").FindAllString(shown, -1)
		return strconv.Itoa(len(lines)) == number
	case check.text == "REFUSAL":
		return refusal.MatchString(shown) == (check.verb == "has")
	}
	return strings.Contains(shown, wanted) == (check.verb == "has")
}

var placeholder = regexp.MustCompile(`\b([upT]\d+|CS\w+|IITK)\b`)

// words puts names, passwords, texts and groups in the place of u1, p1, T1 and CS425.
func (p *performance) words(line string) string {
	return placeholder.ReplaceAllStringFunc(line, func(word string) string {
		number, _ := strconv.Atoi(word[1:])
		switch word[0] {
		case 'u':
			return p.users[(number-1)%len(p.users)][0]
		case 'p':
			return p.users[(number-1)%len(p.users)][1]
		case 'T':
			return fmt.Sprintf("my message, number %d: it costs £%d,00 (or more)!", number, number)
		}
		return word + p.suffix
	})
}

// lastLines returns the last lines of a text, indented.
func lastLines(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return "        " + strings.Join(lines[max(0, len(lines)-20):], "\n        ")
}

// open starts the client of a terminal. The first one of a case tries until the server accepts it, and
// waits until the server says something.
func (p *performance) open(name string) error {
	first := len(p.terminals) == 0
	conn, err := net.DialTimeout("tcp", p.addr, startTime)
	for err != nil && first && time.Now().Before(p.late) && (p.server == nil || !p.server.hasEnded()) {
		time.Sleep(5 * time.Millisecond)
		conn, err = net.DialTimeout("tcp", p.addr, startTime)
	}
	if err != nil {
		return fmt.Errorf("terminal %s cannot connect: %v", name, err)
	}
	t := &terminal{conn: conn.(*net.TCPConn), queue: make(chan string, 3000)}
	t.conn.SetNoDelay(false) // as the course's client: lines may go out glued together
	p.terminals[name] = t
	go t.run() // ends with the connection
	if first {
		p.late = time.Now().Add(caseTime)
		p.started = p.waitFor(startTime, func() bool { return t.String() != "" })
		if !p.started {
			return fmt.Errorf("the server says nothing for %v", startTime)
		}
	}
	return nil
}

// end ends all clients, by a reset, so that no connection of the server's waits in TIME_WAIT.
func (p *performance) end() {
	for _, t := range p.terminals {
		t.conn.SetLinger(0)
		t.conn.Close()
		t.queue <- "" // the client may wait for a line
	}
}

// run is the course's client: two prompts and a verdict, of one read each, and then two loops. Only /exit
// closes the connection here.
func (t *terminal) run() {
	for range 2 {
		if !t.receive() || !t.sendNext() {
			return
		}
	}
	if !t.receive() || strings.Contains(t.String(), "Authentication failed") {
		return
	}
	go func() {
		for t.receive() {
		}
	}()
	for t.sendNext() {
	}
	t.conn.Close()
}

// receive shows what one read brings, and reports whether the connection goes on.
func (t *terminal) receive() bool {
	piece := make([]byte, 1024)
	n, err := t.conn.Read(piece)
	if n > 0 {
		t.Write(append(piece[:n:n], '\n'))
	}
	return err == nil
}

// sendNext sends the next line that was typed, and reports whether the client goes on.
func (t *terminal) sendNext() bool {
	line := <-t.queue
	t.mu.Lock()
	t.sent, t.sentAt = t.sent+1, time.Now()
	t.mu.Unlock()
	if raw, err := t.conn.SyscallConn(); err == nil && line == "/exit" && runtime.GOOS == "linux" {
		// TCP_CORK lets the line and the end of the connection go out together. Otherwise a quick server may
		// close the connection first, and its port is blocked for a minute.
		raw.Control(func(fd uintptr) { syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, 3, 1) })
	}
	_, err := io.WriteString(t.conn, line)
	return err == nil && line != "/exit" && line != ""
}

// answered reports whether all that was typed was sent, and something came after it. No terminal has nothing to wait for.
func (t *terminal) answered() bool {
	if t == nil {
		return true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.typed == t.sent && !t.last.Before(t.sentAt)
}

// A process is a server that the grader has started, and its keeper.
type process struct {
	output
	life  io.Closer // closing it ends both
	ended chan struct{}
}

// startServer starts the server of a submission. Its keeper is this program once more.
func startServer(t *testing.T, dir string) *process {
	p, cmd := &process{ended: make(chan struct{})}, exec.Command(os.Args[0], dir, *gradeUsers, *gradeExec)
	cmd.Env = append(os.Environ(), "CHAT_TEST_AS=keeper")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // so that Ctrl-C does not end it
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = p, p, time.Second
	var err error
	if p.life, err = cmd.StdinPipe(); err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	go func() { cmd.Wait(); close(p.ended) }()
	return p
}

// hasEnded reports whether the server has ended by itself.
func (p *process) hasEnded() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// keep is what a keeper does. It lends the users file to the submission, starts its server, and waits for the end
// of its own input. The end comes when the grader closes it, or when the grader ends for any reason.
// Then the keeper kills all that the server has started, and puts the submission's own users file back.
func keep(dir, usersFile, shellCommand string) {
	users, own := filepath.Join(dir, "users.txt"), filepath.Join(dir, "users.txt.before-grading")
	if usersFile != "" {
		text, _ := os.ReadFile(usersFile)
		os.Rename(users, own) // an error means that there is none
		os.WriteFile(users, text, 0o644)
		defer os.Rename(own, users)
		defer os.Remove(users)
	}
	mark := fmt.Sprint("CHAT_KEPT_BY=", os.Getpid()) // all that the server starts has this in its environment
	cmd := exec.Command("sh", "-c", shellCommand)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "CHAT_TEST_AS=", mark)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stdout
	if err := cmd.Start(); err != nil {
		fmt.Println(err)
		return
	}
	closed, ended := make(chan struct{}), make(chan struct{})
	go func() { io.Copy(io.Discard, os.Stdin); close(closed) }()
	go func() { cmd.Wait(); close(ended) }()
	select {
	case <-closed:
	case <-ended:
		fmt.Println("(the command ended: " + cmd.ProcessState.String() + ")")
	}
	signal := syscall.Signal(0) // asks whether anything is left: the command may have started a server and ended
	for signalKept(cmd.Process.Pid, mark, signal) {
		select {
		case <-closed:
			signal = syscall.SIGKILL
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// signalKept sends a signal to a group of processes and to all that have the mark, and reports whether
// there are any. It needs /proc to find those that have left the group.
func signalKept(group int, mark string, signal syscall.Signal) (found bool) {
	inGroup := syscall.Kill(-group, signal) == nil
	files, _ := filepath.Glob("/proc/[0-9]*/environ")
	if len(files) == 0 {
		return inGroup
	}
	for _, file := range files { // of a process that has ended and waits to be reaped, it is empty
		environment, _ := os.ReadFile(file)
		if slices.Contains(strings.Split(string(environment), "\x00"), mark) {
			pid, _ := strconv.Atoi(strings.Split(file, "/")[2])
			syscall.Kill(pid, signal)
			found = true
		}
	}
	return found
}

// freePort waits until a server can listen at an address, even one that does not set SO_REUSEADDR. It
// returns an empty string then, or who is in the way.
func freePort(address string) (inTheWay string) {
	_, port, _ := net.SplitHostPort(address)
	withoutReuse := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 0) })
	}}
	for waited := time.Duration(0); ; waited += time.Second {
		listener, err := withoutReuse.Listen(context.Background(), "tcp", ":"+port)
		if err == nil {
			listener.Close()
			return ""
		}
		who, _ := exec.Command("ss", "-Hltnp", "sport = :"+port).Output()
		if len(who) > 0 || waited > portTime {
			return "port " + port + " is taken: " + strings.Join(strings.Fields(string(who)), " ")
		}
		if waited == time.Second {
			fmt.Printf("waiting until port %s is free again\n", port)
		}
		time.Sleep(time.Second)
	}
}

// A submission is a server to grade, and what came of it.
type submission struct {
	dir     string
	users   [][2]string
	results []result // of each case; without a verdict, if -run left it out
	started bool     // the server has said something in one of them
	outcome string   // "ok", "no start", "crashed", "timeout", "port", or why it was not graded

	marks, leisure, most float64 // the sums: of the marks, with the cases that pass at leisure, and of all cases
}

// A result is what came of a case.
type result struct {
	gradedCase
	verdict string // "pass", "FAIL", "FAIL in a hurry"
	problem string // what a student needs to know
}

// grade plays all cases that -run allows, at the course's pace and, if one fails, once more at leisure.
// Alone, a submission is told what went wrong while it is graded.
func (s *submission) grade(t *testing.T, alone bool) {
	cases := assignment()
	s.outcome, s.results = "ok", make([]result, len(cases))
	for i, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if *gradeAddr == "" {
				t.Parallel()
			}
			p := &performance{addr: *gradeAddr, users: s.users}
			if *gradeExec == "" { // the server may know earlier cases: take other groups and users each time
				p.suffix = fmt.Sprintf("_%d_%d", os.Getpid(), i)
				p.users = slices.Concat(s.users[i*10%len(s.users):], s.users)
			}
			r := result{c, "pass", s.play(t, c, p)}
			if r.problem != "" {
				p.leisure, p.suffix = true, p.suffix+"x"
				r.verdict = "FAIL"
				if p.started && s.play(t, c, p) == "" {
					r.verdict = "FAIL in a hurry"
				}
				r.problem = fmt.Sprintf("%s: %.300s\n    %s", r.verdict, c.steps, r.problem)
				if alone && c.marks > 0 {
					t.Error(r.problem)
				}
			}
			s.results[i] = r
		})
	}
}

// play plays a case with a fresh server, if the grader is to start it, and returns what was wrong.
func (s *submission) play(t *testing.T, c gradedCase, p *performance) (problem string) {
	switch {
	case s.outcome == "no start" || s.outcome == "port":
		return "not played"
	case *gradeAddr == "":
		p.addr = start(t, "").addr
		return p.play(c)
	case *gradeExec == "":
		time.Sleep(answerTime) // not in order to wait: the server may need a moment to notice that clients are gone
		return p.play(c)
	}
	if problem = freePort(p.addr); problem != "" {
		s.outcome = "port"
		return problem
	}
	p.server = startServer(t, s.dir)
	problem = p.play(c)
	s.started = s.started || p.started
	switch {
	case !s.started:
		s.outcome = "no start"
	case p.server.hasEnded():
		s.outcome = "crashed"
	case time.Now().After(p.late):
		s.outcome = "timeout"
	}
	p.server.life.Close()
	<-p.server.ended
	if problem != "" {
		problem += "\n    The server printed last:\n" + lastLines(p.server.String())
	}
	return problem
}

// report adds up the marks. It returns a table of all cases, and the problems of those that failed.
func (s *submission) report() (table, problems string) {
	for _, r := range s.results {
		if r.verdict == "" {
			continue
		}
		s.most += r.marks
		if r.verdict == "pass" {
			s.marks += r.marks
		}
		if r.verdict != "FAIL" {
			s.leisure += r.marks
		}
		table += fmt.Sprintf("%-40s %4.1f  %s\n", r.name, r.marks, r.verdict)
		if r.problem != "" {
			problems += fmt.Sprintf("\n%s: %s\n", r.name, r.problem)
		}
	}
	table += fmt.Sprintf("%-40s %4.1f  of %g\n%-40s %4.1f\n", "marks", s.marks, s.most, "at leisure", s.leisure)
	return table, problems
}

// readUsers returns the names and passwords in a users file.
func readUsers(path string) (users [][2]string, err error) {
	text, err := os.ReadFile(path)
	for _, line := range strings.Split(string(text), "\n") {
		name, password, found := strings.Cut(strings.TrimSuffix(line, "\r"), ":")
		if found {
			users = append(users, [2]string{name, password})
		}
	}
	if err == nil && len(users) < 100 {
		err = fmt.Errorf("%s has %d users, and the cases need 100: name a larger file with -users", path, len(users))
	}
	return users, err
}

// TestAssignment grades this server or, with flags, one or many others.
func TestAssignment(t *testing.T) {
	if *gradeExec+*gradeAddr == "" {
		if *gradeDir+*gradeUsers+*gradeReport != "." {
			t.Fatal("-dir, -users and -report need -exec, the command that starts the server, or -addr")
		}
		gradeOurs(t)
		return
	}
	if *gradeAddr == "" {
		*gradeAddr = "127.0.0.1:12345"
	}
	dirs, _ := filepath.Glob(*gradeDir)
	dirs = slices.DeleteFunc(dirs, func(dir string) bool { info, err := os.Stat(dir); return err != nil || !info.IsDir() })
	_, _, err := net.SplitHostPort(*gradeAddr)
	switch {
	case err != nil:
		t.Fatalf("-addr: %v", err)
	case *gradeExec == "" && (*gradeDir != "." || *gradeUsers == ""):
		t.Fatal("-addr needs -users, the file of users that the server uses; -dir needs -exec")
	case len(dirs) == 0:
		t.Fatalf("-dir %s: no such folder", *gradeDir)
	}
	csv := "folder,marks,at leisure,seconds,outcome\n"
	for _, dir := range dirs {
		csv += gradeFolder(t, dir, len(dirs) == 1)
		if *gradeReport != "" { // after each submission, because a run may be cut short
			err := os.WriteFile(filepath.Join(*gradeReport, "grades.csv"), []byte(csv), 0o644)
			if err != nil {
				t.Fatal(err)
			}
		}
	}
}

// gradeFolder grades the submission in a folder, prints and returns its line, and writes its report.
func gradeFolder(t *testing.T, dir string, alone bool) (line string) {
	if *gradeExec != "" {
		if inTheWay := freePort(*gradeAddr); inTheWay != "" {
			t.Fatalf("stopped before %s, which gets no marks: %s", dir, inTheWay)
		}
	}
	s, began := &submission{dir: dir}, time.Now()
	var err error
	s.users, err = readUsers(cmp.Or(*gradeUsers, filepath.Join(dir, "users.txt")))
	switch {
	case err == nil:
		s.grade(t, alone)
	case alone || *gradeUsers != "":
		t.Fatal(err)
	default:
		s.outcome = err.Error()
	}
	table, problems := s.report()
	if alone {
		fmt.Print("\n" + table)
	}
	seconds := time.Since(began).Seconds()
	fmt.Printf("%-40s %4.1f of %g, at leisure %4.1f, %4.0f s, %s\n", dir, s.marks, s.most, s.leisure, seconds, s.outcome)
	if *gradeReport != "" {
		os.MkdirAll(*gradeReport, 0o755)
		name := strings.NewReplacer("/", "_", "\\", "_").Replace(dir) + ".txt"
		os.WriteFile(filepath.Join(*gradeReport, name), []byte(table+problems), 0o644)
	}
	return fmt.Sprintf("%q,%.1f,%.1f,%.0f,%q\n", dir, s.marks, s.leisure, seconds, s.outcome)
}

// gradeOurs grades the server of this package. Its cases are played side by side.
func gradeOurs(t *testing.T) {
	t.Parallel()
	s := &submission{}
	for i := range 100 {
		s.users = append(s.users, [2]string{fmt.Sprint("u", i), fmt.Sprint("p", i)})
	}
	t.Cleanup(func() {
		table, _ := s.report()
		fmt.Print("\n" + table)
	})
	s.grade(t, true)
}

// ---- Benchmarks ---------------------------------------------------------------------------------
//
// They measure the server over loopback, with its clients in the same process. Beside it they measure the
// floor: a loop that does nothing but write the same lines to as many connections. See TESTING.md.

// benchLine is what is said.
const benchLine = "the quick brown fox jumps over the lazy dog, and the dog does not care\n"

// online returns the connections of n users who are online.
func online(b *testing.B, n int) (conns []*net.TCPConn) {
	c := converse(b, lines, fmt.Sprintf("u0..u%d in", n-1))
	for i := range n {
		conns = append(conns, c.peers[fmt.Sprint("u", i)].conn)
		conns[i].SetReadDeadline(time.Time{})
	}
	return conns
}

// sink reads a connection and counts off the lines that come.
func sink(conn net.Conn, lines *sync.WaitGroup) {
	buffer := make([]byte, 64<<10)
	for err := error(nil); err == nil; {
		var n int
		n, err = conn.Read(buffer)
		lines.Add(-bytes.Count(buffer[:n], []byte{'\n'}))
	}
}

// fanOut calls say, which says a batch of lines that reach all connections, until b.N lines were said. If a
// batch is one line, the next waits until all have it: a closed loop.
func fanOut(b *testing.B, conns []*net.TCPConn, batch int, say func(call int)) {
	var lines sync.WaitGroup
	for _, conn := range conns {
		go sink(conn, &lines)
	}
	calls := (b.N + batch - 1) / batch
	b.ResetTimer()
	for call := range calls {
		lines.Add(batch * len(conns))
		say(call)
		if batch == 1 {
			lines.Wait()
		}
	}
	lines.Wait()
	b.ReportMetric(float64(calls*batch*len(conns))/b.Elapsed().Seconds(), "deliveries/s")
	lines.Add(1 << 20) // for the notices that come at the end
}

// BenchmarkFanOut: senders broadcast to each other and to readers, a line at a time or 256.
func BenchmarkFanOut(b *testing.B) {
	for _, size := range [][3]int{{1, 35, 1}, {1, 100, 1}, {1, 35, 256}, {1, 100, 256}, {8, 100, 256}, {35, 0, 256}} {
		senders, readers, batch := size[0], size[1], size[2]
		name := fmt.Sprintf("%d senders, %d readers, %d at a time", senders, readers, batch)
		b.Run(name, func(b *testing.B) {
			conns := online(b, senders+readers)
			said := strings.Repeat("/broadcast "+benchLine, batch)
			fanOut(b, conns, batch, func(call int) { io.WriteString(conns[call%senders], said) })
		})
		b.Run("floor of "+name, func(b *testing.B) {
			near, far := pairs(b, senders+readers)
			heard := bytes.Repeat([]byte("[u0][Broadcast]: "+benchLine), batch)
			fanOut(b, near, batch, func(int) {
				for _, conn := range far {
					conn.Write(heard)
				}
			})
		})
	}
}

// BenchmarkPrivate: pairs of users, of whom one writes to the other. When all have written, they wait until
// all lines have arrived. An operation is one line. The floor sends each line straight on.
func BenchmarkPrivate(b *testing.B) {
	exchange := func(b *testing.B, from, to []*net.TCPConn) {
		heard := make([]byte, 200) // more than the line, which is one write
		b.ResetTimer()
		for i := 0; i < b.N; i += len(from) {
			for pair, conn := range from {
				fmt.Fprintf(conn, "/msg u%d %s", len(from)+pair, benchLine)
			}
			for _, conn := range to {
				conn.Read(heard)
			}
		}
	}
	for _, n := range []int{1, 50} {
		b.Run(fmt.Sprintf("%d pairs", n), func(b *testing.B) {
			conns := online(b, 2*n)
			for _, conn := range conns[:n] {
				go io.Copy(io.Discard, conn)
			}
			exchange(b, conns[:n], conns[n:])
		})
		b.Run(fmt.Sprintf("floor of %d pairs", n), func(b *testing.B) {
			from, in := pairs(b, n)
			out, to := pairs(b, n)
			for i := range n {
				go io.Copy(out[i], in[i])
			}
			exchange(b, from, to)
		})
	}
}

// BenchmarkIdle: the resident memory of a server of its own, for each client that is online and says nothing.
// All who are there are told of each new one, so the time of all grows with the square.
func BenchmarkIdle(b *testing.B) {
	var file strings.Builder
	for i := range b.N {
		fmt.Fprintf(&file, "u%d:p%d\n", i, i)
	}
	p := startProgram(b, file.String()).readLog()
	resident := func() (kilobytes float64) {
		status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Process.Pid))
		_, rest, _ := strings.Cut(string(status), "VmRSS:")
		if _, err := fmt.Sscan(rest, &kilobytes); err != nil {
			b.Skip("no /proc here")
		}
		return kilobytes
	}
	before := resident()
	var awaited sync.WaitGroup
	c := newTalk(b, p.running, lines)
	for i := range b.N {
		awaited.Add(1 + i) // the welcome, and the notice to all before
		conn := c.connect(fmt.Sprint("u", i)).conn
		fmt.Fprintf(conn, "u%d\np%d\n", i, i)
		go sink(conn, &awaited)
		awaited.Wait()
	}
	awaited.Add(1 << 20)
	b.ReportMetric((resident()-before)/float64(b.N), "KB/client")
}
