// The tests talk to the server as clients do: over real connections to 127.0.0.1, on a port that the
// system chooses.
//
//	go test ./...                               all of them
//	go test -run TestConversations/group ./     the conversations whose names contain "group"
//	go test -run TestAssignment -v ./           grade: the 37 cases of the assignment and their marks
//	go test -run '^$' -bench . -benchmem ./     measure
//
// The seam. start starts a server in this process and returns its address, and what a client says and
// hears there is what the tests judge. They reach inside only where no wire does: to make limits short or
// long, buffers small and queues full, to stop the server, to count what is left
// of clients that are gone, and to fuzz. startProgram and run start the programs as a user does, where
// that matters: for the users file, the command line, signals, logs, memory. startServer starts another
// server, to grade it.
//
// The table. Most tests are conversations, a row for each thing that is said, > or heard, <:
//
//	alice in
//	bob in
//	alice > /msg bob hello
//	alice < Message sent to bob.
//	bob < [alice]: hello
//
// A peer must hear its lines in the order given, and no others: whatever comes uninvited is found
// at the next line that the peer waits for. A failure shows the conversation so far, with what each
// peer said and heard.
//
// The fence. That nothing comes cannot be waited for. So at the end of a conversation everybody writes
// to himself, and must hear that and nothing before it: the server has queued all that a command sends
// before it answers the command, so what is not there by then will not come.
//
// Events. A test waits for a line, the end of a connection or of a program, or a line of the log, and at
// most for patience. Nothing sleeps to wait for these. Only that a queue is full, of which nothing tells,
// is taken from nothing happening for a while (TestLeaving, TestStoppingWithStuckClient).
//
// Grading. TestAssignment plays what the course graded and adds up the marks, for this server or,
// with flags, for any other. Of its code, only the call of start in gradeOurs knows this package.
//
// In the order of the file: the seam and the peers, commands, login, framing, the program, hostile
// clients, fuzzing, grading, benchmarks.
package main

import (
	"bufio"
	"bytes"
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
	"time"
	"unicode"
	"unicode/utf8"
)

// patience is how long a test waits for an event that must come. It is spent only when a test fails.
const patience = 20 * time.Second

// ---- The seam, and the peers that talk to it ----

// users are the ones of users.txt, one whose password has colons and blanks, and u0 to u199 with
// passwords p0 to p199.
func users() map[string]string {
	passwords := map[string]string{
		"alice": "password123", "bob": "qwerty456", "charlie": "secure789", "david": "helloWorld!",
		"eve": "trustno1", "frank": "letmein", "grace": "passw0rd",
		"colon": "a:b c:",
	}
	for i := 0; i < 200; i++ {
		passwords[fmt.Sprint("u", i)] = fmt.Sprint("p", i)
	}
	return passwords
}

// A logBuffer is a log that a test can read while the server writes it.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write takes what the server logs.
func (l *logBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

// String returns what was logged so far.
func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// A running is a server under test.
type running struct {
	*server
	addr     string
	logs     *logBuffer
	listener net.Listener
}

// start starts a server with impatient limits, which change may alter, and stops it after the test.
func start(t testing.TB, change ...func(*server)) running {
	t.Helper()
	logs := new(logBuffer)
	s := newServer(users(), log.New(logs, "", log.LstdFlags))
	s.refusalDelay, s.silence, s.acceptPause = 50*time.Millisecond, 50*time.Millisecond, 50*time.Millisecond
	for _, f := range change {
		f(s)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := running{s, listener.Addr().String(), logs, listener}
	go s.serve(listener)
	t.Cleanup(func() { s.stop(listener); s.sessions.Wait() })
	return r
}

// A talk is a conversation: the peers and what was said and heard so far.
type talk struct {
	testing.TB
	r     running
	raw   bool // its peers send no newlines
	mu    sync.Mutex
	story []string
}

// note adds a line to the story that a failure shows.
func (c *talk) note(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.story = append(c.story, fmt.Sprintf(format, args...))
}

// fail ends the test with the story so far.
func (c *talk) fail(format string, args ...any) {
	c.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	story := c.story
	if len(story) > 40 {
		story = append([]string{"..."}, story[len(story)-40:]...)
	}
	c.Fatalf("%s\nThe conversation so far:\n    %s", fmt.Sprintf(format, args...), strings.Join(story, "\n    "))
}

// A peer is a client in a conversation.
type peer struct {
	*talk
	name string
	conn *net.TCPConn
	in   *bufio.Reader
}

// connect returns a peer that has not logged in.
func (c *talk) connect(name string) *peer {
	c.Helper()
	conn, err := net.Dial("tcp", c.r.addr)
	if err != nil {
		c.fail("%s cannot connect: %v", name, err)
	}
	c.Cleanup(func() { conn.Close() })
	conn.SetReadDeadline(time.Now().Add(patience))
	return &peer{c, name, conn.(*net.TCPConn), bufio.NewReader(conn)}
}

// login returns a peer that has logged in and was welcomed.
func (c *talk) login(name string) *peer {
	c.Helper()
	p := c.connect(name)
	p.prompt("Enter username: ")
	p.say(name)
	p.prompt("Enter password: ")
	p.say(c.r.passwords[name])
	p.hear("Welcome to the chat server!")
	return p
}

// say sends a message as this conversation's kind of client does.
func (p *peer) say(message string) {
	p.Helper()
	if !p.raw {
		message += "\n"
	}
	p.send(message)
}

// send sends bytes as they are, in one write.
func (p *peer) send(data string) {
	p.Helper()
	p.note("%-8s says   %.200q", p.name, data)
	p.conn.SetWriteDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(p.conn, data); err != nil {
		p.fail("%s cannot send %.80q: %v", p.name, data, err)
	}
}

// prompt waits for a text without a newline.
func (p *peer) prompt(want string) {
	p.Helper()
	got := make([]byte, len(want))
	n, err := io.ReadFull(p.in, got)
	p.note("%-8s hears  %q", p.name, got[:n])
	if string(got[:n]) != want {
		p.fail("%s heard %q (%v), want the prompt %q", p.name, got[:n], err, want)
	}
}

// line waits for the next line and returns it without its end.
func (p *peer) line() string {
	p.Helper()
	p.conn.SetReadDeadline(time.Now().Add(patience))
	got, err := p.in.ReadString('\n')
	if err != nil {
		p.fail("%s heard %q and then %v, want a line", p.name, got, err)
	}
	got = strings.TrimSuffix(got, "\n")
	p.note("%-8s hears  %.200q", p.name, got)
	return got
}

// hear waits for the next lines, which must be these.
func (p *peer) hear(want ...string) {
	p.Helper()
	for _, w := range want {
		if got := p.line(); got != w {
			p.fail("%s heard %q\n%*swant %q", p.name, got, len(p.name)+1, "", w)
		}
	}
}

// hearUntil waits for a line and returns those before it.
func (p *peer) hearUntil(last string) (before []string) {
	p.Helper()
	for {
		got := p.line()
		if got == last {
			return before
		}
		before = append(before, got)
	}
}

// end waits for the server to close the connection, without another line.
func (p *peer) end() {
	p.Helper()
	p.conn.SetReadDeadline(time.Now().Add(patience))
	rest, err := io.ReadAll(p.in)
	p.note("%-8s hears  %q and the end", p.name, rest)
	if len(rest) > 0 || err != nil {
		p.fail("%s heard %q (%v), want the end of the connection", p.name, rest, err)
	}
}

// fence proves that nothing is on its way to this peer.
func (p *peer) fence() {
	p.Helper()
	p.say("/msg " + p.name + " fence")
	p.hear("["+p.name+"]: fence", "Message sent to "+p.name+".")
}

// converse plays a conversation, a row a line: who, what it does, and with which line.
//
//	alice in             alice logs in; all others hear that she has joined
//	alice > /users       alice says it
//	alice < Online ...   alice hears it
//	alice end            the server has closed alice's connection
//	alice gone           alice closes her connection
func converse(t testing.TB, r running, raw bool, rows string) {
	t.Helper()
	c := &talk{TB: t, r: r, raw: raw}
	peers := map[string]*peer{}
	var order []string
	for _, row := range strings.Split(strings.TrimSpace(rows), "\n") {
		who, rest, _ := strings.Cut(strings.TrimLeft(row, "\t "), " ")
		what, line, _ := strings.Cut(strings.TrimLeft(rest, " "), " ")
		p := peers[who]
		switch what {
		case "in":
			peers[who] = c.login(who)
			for _, other := range order {
				peers[other].hear(who + " has joined the chat.")
			}
			order = append(order, who)
		case ">":
			p.say(strings.ReplaceAll(line, `\t`, "\t"))
		case "<":
			p.hear(strings.ReplaceAll(line, `\t`, "\t"))
		case "end", "gone":
			if what == "end" {
				p.end()
			}
			p.conn.Close()
			order = except(order, who)
		default:
			t.Fatalf("bad row %q", row)
		}
	}
	for _, who := range order {
		peers[who].fence()
	}
}

// except returns names but one.
func except(names []string, name string) (rest []string) {
	for _, n := range names {
		if n != name {
			rest = append(rest, n)
		}
	}
	return rest
}

// eachKind runs a test for line clients and for raw clients, each with a server of its own.
func eachKind(t *testing.T, test func(t *testing.T, raw bool)) {
	for _, raw := range []bool{false, true} {
		t.Run(map[bool]string{false: "line", true: "raw"}[raw], func(t *testing.T) {
			t.Parallel()
			test(t, raw)
		})
	}
}

// ---- Commands ----

// Everything that works, as tables; raw clients get the same lines as line clients. At the end the test
// looks at all replies: none may have a word by which programs know refusals.
func TestConversations(t *testing.T) {
	for _, tc := range []struct{ name, rows string }{
		{"private", `
			alice in
			bob in
			alice > /msg bob hello, bob
			alice < Message sent to bob.
			bob < [alice]: hello, bob
			bob > /msg alice hello!
			bob < Message sent to alice.
			alice < [bob]: hello!`},
		{"private to oneself", `
			alice in
			alice > /msg alice note
			alice < [alice]: note
			alice < Message sent to alice.`},
		{"the case of the word, blanks, tabs", `
			alice in
			bob in
			alice > /MsG   bob   two  blanks,\ta tab. 
			alice < Message sent to bob.
			bob < [alice]: two  blanks,\ta tab. 
			alice > \t/msg\tbob\t/quit
			alice < Message sent to bob.
			bob < [alice]: /quit
			alice >  \t 
			alice > /USERS \t
			alice < Online users (2): alice, bob`},
		{"broadcast", `
			alice in
			alice > /broadcast anybody?
			alice < Message sent to 0 users.
			bob in
			alice > /broadcast hello
			alice < Message sent to 1 user.
			bob < [alice][Broadcast]: hello
			charlie in
			bob > /broadcast hello all
			bob < Message sent to 2 users.
			alice < [bob][Broadcast]: hello all
			charlie < [bob][Broadcast]: hello all`},
		{"group", `
			alice in
			bob in
			charlie in
			alice > /create_group cs
			alice < Group cs created.
			alice > /group_msg cs alone?
			alice < Message sent to group cs (0 members).
			bob > /join_group cs
			bob < You joined the group cs.
			alice < bob has joined the group cs.
			bob > /join_group cs
			bob < You joined the group cs.
			alice > /group_msg cs hi
			alice < Message sent to group cs (1 member).
			bob < [alice][Group cs]: hi
			charlie > /join_group cs
			charlie < You joined the group cs.
			alice < charlie has joined the group cs.
			bob < charlie has joined the group cs.
			charlie > /group_msg cs hi, two
			charlie < Message sent to group cs (2 members).
			alice < [charlie][Group cs]: hi, two
			bob < [charlie][Group cs]: hi, two
			bob > /leave_group cs
			bob < You left the group cs.
			alice < bob has left the group cs.
			charlie < bob has left the group cs.
			alice > /group_msg cs bye
			alice < Message sent to group cs (1 member).
			charlie < [alice][Group cs]: bye`},
		{"a group dies with its last member", `
			alice in
			bob in
			alice > /create_group cs
			alice < Group cs created.
			bob > /join_group cs
			bob < You joined the group cs.
			alice < bob has joined the group cs.
			alice > /leave_group cs
			alice < You left the group cs.
			bob < alice has left the group cs.
			bob > /leave_group cs
			bob < You left the group cs.
			alice > /groups_users
			alice < Groups (0):
			alice > /create_group cs
			alice < Group cs created.`},
		{"a group dies with a member that quits", `
			alice in
			bob in
			bob > /create_group cs
			bob < Group cs created.
			bob > /create_group both
			bob < Group both created.
			alice > /join_group both
			alice < You joined the group both.
			bob < alice has joined the group both.
			bob > /quit
			bob < Goodbye!
			bob end
			alice < bob has left the chat.
			alice > /groups_users
			alice < Groups (1):
			alice <   both (1): alice
			alice > /create_group cs
			alice < Group cs created.`},
		{"a group dies with a member whose connection ends", `
			alice in
			bob in
			bob > /create_group cs
			bob < Group cs created.
			bob gone
			alice < bob has left the chat.
			alice > /groups_users
			alice < Groups (0):
			alice > /users
			alice < Online users (1): alice`},
		{"lists are sorted", `
			charlie in
			alice in
			bob in
			bob > /users
			bob < Online users (3): alice, bob, charlie
			charlie > /create_group zoo
			charlie < Group zoo created.
			bob > /create_group ark
			bob < Group ark created.
			alice > /join_group zoo
			alice < You joined the group zoo.
			charlie < alice has joined the group zoo.
			bob > /groups_users
			bob < Groups (2):
			bob <   ark (1): bob
			bob <   zoo (2): alice, charlie`},
		{"leaving and coming back", `
			alice in
			bob in
			bob > /exit
			bob < Goodbye!
			bob end
			alice < bob has left the chat.
			alice > /msg bob there?
			alice < Error: bob is not online. Who is: /users
			bob in
			alice > /msg bob there?
			alice < Message sent to bob.
			bob < [alice]: there?`},
		{"nobody can forge a line", `
			alice in
			bob in
			alice > /msg bob x` + "\x1b[2J\x07\r\u0085" + `y
			alice < Message sent to bob.
			bob < [alice]: x` + "\ufffd[2J\ufffd\ufffd\ufffd" + `y
			alice > /broadcast ` + "\xff\xfe" + `z
			alice < Message sent to 1 user.
			bob < [alice][Broadcast]: ` + "\ufffd\ufffdz" + `
			alice > /msg bob ` + "a\u2028b\u2029c\u202ed\u2066e\u061cf\u200eg" + `
			alice < Message sent to bob.
			bob < [alice]: ` + "a\ufffdb\ufffdc\ufffdd\ufffde\ufffdf\ufffdg" + `
			alice > /msg bob ` + "\u200b\ufeff\u00a0👩\u200d🔬" + `
			alice < Message sent to bob.
			bob < [alice]: ` + "\u200b\ufeff\u00a0👩\u200d🔬" + `
			alice > /create_group a` + "\x1b" + `
			alice < Error: not a name for a group: 64 bytes at most, no brackets, no invisible characters.
			alice > /msg ` + "b\x00b" + ` x
			alice < Error: ` + "b\ufffdb" + ` is not online. Who is: /users`},
		{"help", `
			alice in
			alice > /help
			alice < /msg <username> <message> - write to one user
			alice < /broadcast <message> - write to all who are online
			alice < /create_group <group> - start a group, with you in it
			alice < /join_group <group> - become a member
			alice < /leave_group <group> - leave it; it ends with its last member
			alice < /group_msg <group> <message> - write to the other members
			alice < /users - who is online
			alice < /groups_users - all groups and who is in them
			alice < /help - this list
			alice < /quit - leave the chat
			alice < /exit - the same`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			eachKind(t, func(t *testing.T, raw bool) { converse(t, start(t), raw, tc.rows) })
			for _, row := range strings.Split(tc.rows, "\n") {
				_, reply, heard := strings.Cut(row, " < ")
				if heard && !strings.HasPrefix(reply, "Error: ") && refusalWord(strings.ReplaceAll(reply, "note", "")) {
					t.Errorf("%q has a word that refusals have", reply)
				}
			}
		})
	}
}

// refusalWord reports whether a line has one of the words by which a program knows a refusal.
func refusalWord(line string) bool {
	return regexp.MustCompile(`(?i)fail|error|exist|not`).MatchString(line)
}

// Everything that is refused, with the whole line. The fences at the end show that it reached nobody else,
// and that the session goes on.
func TestRefusals(t *testing.T) {
	const (
		badName = "Error: not a name for a group: 64 bytes at most, no brackets, no invisible characters."
		tooLong = "Error: a message may not be longer than 1024 bytes."
	)
	unknown := func(word string) string {
		return "Error: " + word + " is not a command. To write to all: /broadcast <message>. More: /help"
	}
	eachKind(t, func(t *testing.T, raw bool) {
		c := &talk{TB: t, r: start(t), raw: raw}
		bob := c.login("bob")
		alice := c.login("alice")
		bob.hear("alice has joined the chat.")
		bob.say("/create_group bobs")
		bob.hear("Group bobs created.")
		for _, tc := range [][2]string{
			{"/whoami", unknown("/whoami")},
			{"/", unknown("/")},
			{"hello, world", unknown("hello,")},
			{"/msgbob hi", unknown("/msgbob")},
			{"/msg", "Error: usage: /msg <username> <message>"},
			{"/msg bob", "Error: usage: /msg <username> <message>"},
			{"/msg bob  ", "Error: usage: /msg <username> <message>"},
			{"/broadcast", "Error: usage: /broadcast <message>"},
			{"/create_group", "Error: usage: /create_group <group>"},
			{"/create_group a b", "Error: usage: /create_group <group>"},
			{"/join_group", "Error: usage: /join_group <group>"},
			{"/join_group a b", "Error: usage: /join_group <group>"},
			{"/leave_group a b", "Error: usage: /leave_group <group>"},
			{"/group_msg", "Error: usage: /group_msg <group> <message>"},
			{"/group_msg bobs", "Error: usage: /group_msg <group> <message>"},
			{"/users all", "Error: usage: /users"},
			{"/groups_users x", "Error: usage: /groups_users"},
			{"/help me", "Error: usage: /help"},
			{"/quit now", "Error: usage: /quit"},
			{"/exit now", "Error: usage: /exit"},
			{"/msg carol hi", "Error: carol is not online. Who is: /users"},
			{"/msg charlie hi", "Error: charlie is not online. Who is: /users"},
			{"/msg Bob hi", "Error: Bob is not online. Who is: /users"},
			{"/join_group none", "Error: group none does not exist. To start it: /create_group none"},
			{"/join_group Bobs", "Error: group Bobs does not exist. To start it: /create_group Bobs"},
			{"/leave_group none", "Error: group none does not exist. To start it: /create_group none"},
			{"/leave_group bobs", "Error: you are not a member of group bobs. To join it: /join_group bobs"},
			{"/group_msg none hi", "Error: group none does not exist. To start it: /create_group none"},
			{"/group_msg bobs hi", "Error: you are not a member of group bobs. To join it: /join_group bobs"},
			{"/create_group bobs", "Error: group bobs exists already. To join it: /join_group bobs"},
			{"/create_group [x", badName},
			{"/create_group x]", badName},
			{"/create_group x\x7f", badName},
			{"/create_group x\ufffd", badName},
			{"/create_group \u200b", badName},
			{"/create_group a\u00a0b", badName},
			{"/create_group \ufeffcs", badName},
			{"/create_group cs\u200b", badName},
			{"/create_group cs\u202e", badName},
			{"/create_group x\xff", badName},
			{"/create_group " + strings.Repeat("x", 65), badName},
			{"/msg bob " + strings.Repeat("x", 1024-9+1), tooLong},
			{strings.Repeat("x", 1025), tooLong},
			{strings.Repeat("x", 2000), tooLong},
		} {
			alice.say(tc[0])
			alice.hear(tc[1])
			if !strings.HasPrefix(tc[1], "Error: ") || !regexp.MustCompile(`not|exist|usage: `).MatchString(tc[1]) {
				t.Errorf("%q does not look like a refusal", tc[1])
			}
		}
		bob.say("/group_msg bobs mine?") // the refused creation has not taken the group away from bob
		bob.hear("Message sent to group bobs (0 members).")
		// What is just within the limits is no refusal.
		longest := strings.Repeat("x", 64)
		alice.say("/create_group " + longest)
		alice.hear("Group " + longest + " created.")
		alice.say("/msg bob " + strings.Repeat("y", 1024-9))
		alice.hear("Message sent to bob.")
		bob.hear("[alice]: " + strings.Repeat("y", 1024-9))
		alice.say("/msg bob " + strings.Repeat("\xff", 1024-9)) // each byte becomes a character of three
		alice.hear("Message sent to bob.")
		bob.hear("[alice]: " + strings.Repeat("\ufffd", 1024-9))
		alice.fence()
		bob.fence()
	})
}

// ---- Login ----
//
// Where a test makes the pause an hour, it shows that nobody waits for it who need not.

// prompts is what everybody gets before anything else.
const prompts = "Enter username: Enter password: "

// What comes for what is sent, to the letter, for right and for wrong logins of both kinds of clients.
func TestLogin(t *testing.T) {
	const (
		welcome = prompts + "Welcome to the chat server!\n"
		failed  = prompts + "Authentication failed.\n"
	)
	for _, tc := range []struct {
		name   string
		pieces []string // each but the first is sent when the password was asked for
		want   string   // all that comes until the end, which a closed sending side brings about
	}{
		{"lines", []string{"alice\n", "password123\n"}, welcome},
		{"raw", []string{"alice", "password123"}, welcome},
		{"lines with CR", []string{"alice\r\n", "password123\r\n"}, welcome},
		{"lines in one write", []string{"alice\npassword123\n"}, welcome},
		{"lines, the last without its end", []string{"alice\npassword123"}, welcome},
		{"lines and commands in one write", []string{"alice\npassword123\n/users\n/quit\n"},
			welcome + "Online users (1): alice\nGoodbye!\n"},
		{"raw and a command", []string{"alice", "password123", "/quit"}, welcome + "Goodbye!\n"},
		{"a password with colons and blanks", []string{"colon\na:b c:\n"}, welcome},
		{"a password with colons and blanks, raw", []string{"colon", "a:b c:"}, welcome},
		{"wrong password", []string{"alice\n", "password124\n"}, failed},
		{"wrong password, raw", []string{"alice", "password124"}, failed},
		{"wrong name", []string{"carol\n", "password123\n"}, failed},
		{"wrong name, raw", []string{"carol", "password123"}, failed},
		{"another one's password", []string{"alice\nqwerty456\n"}, failed},
		{"the password with a blank", []string{"alice\npassword123 \n"}, failed},
		{"the name in upper case", []string{"ALICE\npassword123\n"}, failed},
		{"blank password", []string{"alice\n\n"}, failed},
		{"blank name", []string{"\n\n"}, failed},
		{"blank name, a password", []string{"\npassword123\n"}, failed},
		{"no password", []string{"alice\n"}, failed},
		{"too much, raw", []string{"alice", strings.Repeat("x", 3000)}, failed},
		{"a name that is too long", []string{strings.Repeat("x", 10000) + "\n", "y\n"}, failed},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c := &talk{TB: t, r: start(t)}
			p := c.connect("somebody")
			p.prompt("Enter username: ")
			p.send(tc.pieces[0])
			p.prompt("Enter password: ")
			for i, piece := range tc.pieces[1:] {
				if i > 0 {
					p.hear("Welcome to the chat server!")
				}
				p.send(piece)
			}
			want := strings.TrimPrefix(tc.want, prompts)
			if len(tc.pieces) > 2 {
				want = strings.TrimPrefix(tc.want, welcome)
			} else if len(tc.pieces) == 2 && tc.want == welcome {
				p.hear("Welcome to the chat server!") // before the end: a raw client does not wait for it
				want = ""
			}
			p.conn.CloseWrite()
			got, err := io.ReadAll(p.in)
			if string(got) != want || err != nil {
				p.fail("came %q (%v), want %q", got, err, want)
			}
		})
	}
}

// A refusal takes its pause, and nothing else does: here the pause is longer than the test may take.
func TestLoginRightPasswordDoesNotWait(t *testing.T) {
	t.Parallel()
	eachKind(t, func(t *testing.T, raw bool) {
		c := &talk{TB: t, r: start(t, func(s *server) { s.silence, s.refusalDelay = time.Hour, time.Hour }), raw: raw}
		c.login("alice").fence()
	})
}

// The time that a wrong password costs is the same for all who are wrong: the pause.
func TestLoginWrongPasswordWaits(t *testing.T) {
	t.Parallel()
	const pause = 300 * time.Millisecond
	for _, pieces := range [][]string{
		{"alice\n", "wrong\n"}, {"carol\n", "wrong\n"}, {"alice\nwrong\n/users\n"}, {"alice", "wrong"}, {"carol", "wrong"},
	} {
		t.Run(fmt.Sprintf("%q", pieces), func(t *testing.T) {
			t.Parallel()
			c := &talk{TB: t, r: start(t, func(s *server) { s.refusalDelay = pause })}
			before := time.Now() // the login, and the time of its refusal, begin after this
			p := c.connect("somebody")
			p.prompt("Enter username: ")
			p.send(pieces[0])
			p.prompt("Enter password: ")
			if len(pieces) > 1 {
				p.send(pieces[1])
			}
			p.hear("Authentication failed.")
			if took := time.Since(before); took < pause {
				p.fail("refused after %v, want %v at least", took, pause)
			}
			p.end()
		})
	}
}

// A user who is online is not let in again, and keeps the session.
func TestLoginTwice(t *testing.T) {
	eachKind(t, func(t *testing.T, raw bool) {
		c := &talk{TB: t, r: start(t), raw: raw}
		alice := c.login("alice")
		for _, tc := range [][2]string{
			{"password123", "Authentication failed: this user is logged in already."},
			{"wrong", "Authentication failed."}, // who does not know the password is not told who is online
		} {
			second := c.connect("second")
			second.prompt("Enter username: ")
			second.say("alice")
			second.prompt("Enter password: ")
			second.say(tc[0])
			second.hear(tc[1])
			second.end()
		}
		alice.fence() // she has noticed nothing
		alice.say("/quit")
		alice.hear("Goodbye!")
		alice.end()
		c.login("alice").fence() // when the connection has ended, the name is free
	})
}

// Who does not log in in time is cut off, however far he came; who is in may stay.
func TestLoginTimeout(t *testing.T) {
	t.Parallel()
	for _, typed := range []string{"", "alice", "alice\n", "alice\npassw", "alice\npassword123\n"} {
		t.Run(fmt.Sprintf("%q", typed), func(t *testing.T) {
			t.Parallel()
			timeout := 200 * time.Millisecond
			if strings.HasSuffix(typed, "123\n") {
				timeout = 2 * time.Second // enough to get in on a busy machine
			}
			c := &talk{TB: t, r: start(t, func(s *server) { s.loginTimeout = timeout })}
			p := c.connect("somebody")
			p.prompt("Enter username: ")
			if strings.HasSuffix(typed, "123\n") { // who is in may stay
				p.send(typed)
				p.prompt("Enter password: ")
				p.hear("Welcome to the chat server!")
				late := c.connect("late")
				late.prompt("Enter username: ")
				late.hear("Authentication failed: no login within 2 seconds.")
				late.end()
				p.name = "alice"
				p.fence()
				return
			}
			p.send(typed)
			if typed != "" {
				p.prompt("Enter password: ")
			}
			p.hear("Authentication failed: no login within 0 seconds.")
			p.end()
		})
	}
}

// However a login and the commands behind it are cut in two, the outcome is the same.
func TestLoginEverySplit(t *testing.T) {
	t.Parallel()
	for _, stream := range []string{
		"alice\npassword123\n/users\n/msg alice hi\n/quit\n",
		"alice\r\npassword123\r\n/users\r\n/msg alice hi\r\n/quit\r\n",
	} {
		r := start(t, func(s *server) { s.silence = patience })
		c := &talk{TB: t, r: r}
		for cut := 1; cut <= len(stream); cut++ {
			p := c.connect(fmt.Sprint("cut at ", cut))
			p.prompt("Enter username: ")
			p.send(stream[:cut])
			p.prompt("Enter password: ") // the server has read the first part
			p.send(stream[cut:])
			p.hear("Welcome to the chat server!", "Online users (1): alice", "[alice]: hi", "Message sent to alice.", "Goodbye!")
			p.end()
		}
	}
}

// Bytes that come one at a time make the same messages, if, in the login, less than the pause is between them.
func TestLoginByteByByte(t *testing.T) {
	t.Parallel()
	for _, gap := range []time.Duration{0, time.Millisecond, 20 * time.Millisecond, 200 * time.Millisecond} {
		t.Run(gap.String(), func(t *testing.T) {
			t.Parallel()
			c := &talk{TB: t, r: start(t, func(s *server) { s.silence = patience })}
			p := c.connect("alice")
			for _, b := range []byte("alice\npassword123\n/users\n") {
				time.Sleep(gap) // not to wait for anything: this is the speed at which alice types
				p.send(string(b))
			}
			p.prompt(prompts)
			p.hear("Welcome to the chat server!", "Online users (1): alice")
			p.fence()
		})
	}
}

// When many log in at once, each is welcomed before it hears of anybody else.
func TestLoginWelcomeFirst(t *testing.T) {
	t.Parallel()
	c := &talk{TB: t, r: start(t)}
	var wg sync.WaitGroup
	for i := 0; i < 50; i++ {
		p := c.connect(fmt.Sprint("u", i))
		wg.Add(1)
		go func() {
			defer wg.Done()
			io.WriteString(p.conn, fmt.Sprintf("u%d\np%d\n/broadcast hello\n/quit\n", i, i))
			got, err := io.ReadAll(p.in)
			if !strings.HasPrefix(string(got), prompts+"Welcome to the chat server!\n") || err != nil {
				t.Errorf("u%d got %.200q (%v), want the welcome first", i, got, err)
			}
		}()
	}
	wg.Wait()
}

// Who sends more than any password is refused without waiting for the rest of it.
func TestLoginTooMuch(t *testing.T) {
	t.Parallel()
	c := &talk{TB: t, r: start(t, func(s *server) { s.silence, s.refusalDelay = time.Hour, time.Hour })}
	p := c.connect("somebody")
	p.prompt("Enter username: ")
	p.send("alice")
	p.prompt("Enter password: ")
	p.send(strings.Repeat("x", 5000))
	c.until("the refusal is logged", func() bool {
		return strings.Contains(c.r.logs.String(), "WARN login of alice from ")
	})
}

// until waits for a condition that no line on a connection tells of.
func (c *talk) until(what string, ok func() bool) {
	c.Helper()
	for late := time.Now().Add(patience); !ok(); runtime.Gosched() {
		if time.Now().After(late) {
			c.fail("waited %v until %s. The log:\n%.2000s", patience, what, c.r.logs)
		}
	}
}

// The last lines arrive even if the client has sent much that nobody reads any more.
func TestLastLinesArrive(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, sent, want string }{
		{"after /quit", "alice\npassword123\n/quit\n", prompts + "Welcome to the chat server!\nGoodbye!\n"},
		{"after a wrong password", "alice\nwrong\n", prompts + "Authentication failed.\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			p := (&talk{TB: t, r: start(t)}).connect("alice")
			p.send(tc.sent + strings.Repeat("/users\n", 200000))
			p.conn.CloseWrite()
			if got, err := io.ReadAll(p.in); string(got) != tc.want || err != nil {
				p.fail("came %q (%v), want %q", got, err, tc.want)
			}
		})
	}
}

// What was typed of a line when the connection broke is not carried out.
func TestHalfALine(t *testing.T) {
	t.Parallel()
	for _, end := range []string{"reset", "stop"} {
		t.Run(end, func(t *testing.T) {
			t.Parallel()
			c := &talk{TB: t, r: start(t)}
			alice := c.login("alice")
			bob := c.login("bob")
			alice.hear("bob has joined the chat.")
			alice.send("/msg alice the server has read this\n/msg bob I do not agr")
			alice.hear("[alice]: the server has read this", "Message sent to alice.")
			if end == "reset" {
				alice.conn.SetLinger(0)
				alice.conn.Close()
				bob.hear("alice has left the chat.")
				bob.fence()
				return
			}
			c.r.stop(c.r.listener)
			bob.hear("Server is shutting down.")
			bob.end()
		})
	}
}

// The server says at once that no more will come, whatever time it gives the client to stop sending.
func TestEndIsSaid(t *testing.T) {
	t.Parallel()
	c := &talk{TB: t, r: start(t, func(s *server) { s.slowTimeout = time.Hour })}
	p := c.login("alice")
	p.say("/quit")
	p.hear("Goodbye!")
	p.end()
}

// A client that has said goodbye but does not close its side is closed all the same.
func TestEndIsBounded(t *testing.T) {
	t.Parallel()
	c := &talk{TB: t, r: start(t, func(s *server) { s.slowTimeout = 200 * time.Millisecond })}
	p := c.login("alice")
	p.say("/quit")
	p.hear("Goodbye!")
	p.end()
	p.conn.SetWriteDeadline(time.Time{})
	c.until("writing fails, because nobody reads any more", func() bool {
		_, err := p.conn.Write([]byte("."))
		return err != nil
	})
}

// ---- Framing ----
//
// See also TestLoginEverySplit and TestLoginByteByByte above, and FuzzFraming below.

// What a line client sends in one write makes these messages; and again, when it closes its sending side
// behind them.
func TestFramingLines(t *testing.T) {
	const tooLong = "Error: a message may not be longer than 1024 bytes."
	for _, tc := range []struct {
		name, sent string
		want       []string
	}{
		{"glued", "/users\n/help x\n/users\n", []string{"Online users (1): alice", "Error: usage: /help", "Online users (1): alice"}},
		{"CRLF", "/users\r\n\r\n/users\r\n", []string{"Online users (1): alice", "Online users (1): alice"}},
		{"blank lines", "\n\n \n\t\n/users\n", []string{"Online users (1): alice"}},
		{"a CR inside", "/msg alice a\rb\n", []string{"[alice]: a\ufffdb", "Message sent to alice."}},
		{"too long by its end", strings.Repeat("x", 1025) + "\r\n/users\n", []string{tooLong, "Online users (1): alice"}},
		{"just not", "/msg alice " + strings.Repeat("x", 1013) + "\r\n",
			[]string{"[alice]: " + strings.Repeat("x", 1013), "Message sent to alice."}},
		{"10 MB", strings.Repeat("0123456789", 1<<20) + "\n/users\n", []string{tooLong, "Online users (1): alice"}},
		{"no glue for lines", "/msg alice a/msg alice b\n", []string{"[alice]: a/msg alice b", "Message sent to alice."}},
		{"1,000 in one write", strings.Repeat("/users\n", 1000), strings.Split(strings.Repeat("Online users (1): alice,", 999)+"Online users (1): alice", ",")},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c := &talk{TB: t, r: start(t)}
			alice := c.login("alice")
			alice.send(tc.sent)
			alice.hear(tc.want...)
			alice.fence()
			// Whoever closes his sending side still gets all that he is owed, the last line's answer too.
			alice.send(tc.sent + "/users")
			alice.conn.CloseWrite()
			alice.hear(tc.want...)
			alice.hear("Online users (1): alice")
			alice.end()
		})
	}
}

// What a raw client sends in one write is one message, or several where a command begins.
func TestFramingRaw(t *testing.T) {
	for _, tc := range []struct {
		name, sent string
		want       []string
	}{
		{"glued", "/create_group a/create_group b", []string{"Group a created.", "Group b created."}},
		{"glued three times, any case", "/msg alice x/MSG alice y/Users/msg\talice z",
			[]string{"[alice]: x", "Message sent to alice.", "[alice]: y/Users", "Message sent to alice.", "[alice]: z", "Message sent to alice."}},
		{"behind one without arguments", "/users/msg alice x", []string{"Online users (1): alice", "[alice]: x", "Message sent to alice."}},
		{"no glue behind a blank", "/msg alice see /msg bob x", []string{"[alice]: see /msg bob x", "Message sent to alice."}},
		{"no glue behind a tab", "/msg alice see\t/msg bob x", []string{"[alice]: see\t/msg bob x", "Message sent to alice."}},
		{"no glue without a blank", "/msg alice see/msgs", []string{"[alice]: see/msgs", "Message sent to alice."}},
		{"no glue before a command without arguments", "/create_group a/users", []string{"Group a/users created."}},
		{"nor with a blank behind it", "/msg alice a/users b", []string{"[alice]: a/users b", "Message sent to alice."}},
		{"a line that is too long", strings.Repeat("x", 3000), []string{"Error: a message may not be longer than 1024 bytes."}},
		{"a newline makes a line client", "/users\n/msg alice x/msg alice y\n",
			[]string{"Online users (1): alice", "[alice]: x/msg alice y", "Message sent to alice."}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c := &talk{TB: t, r: start(t), raw: true}
			alice := c.login("alice")
			alice.send(tc.sent)
			alice.hear(tc.want...)
			if strings.Contains(tc.sent, "\n") {
				alice.send("/msg alice not before its newline")
				alice.send("\n")
				alice.hear("[alice]: not before its newline", "Message sent to alice.")
				return
			}
			alice.fence()
		})
	}
}

// ---- The program: users file, command line, stopping, log, client ----
//
// These run the programs, as a user does: exit status, what is printed, what is in the folder afterwards.

// builtIn is the folder of the programs that the tests have built, if any.
var builtIn string

// programs builds the server and the client, once, and returns their paths.
var programs = sync.OnceValues(func() (paths [2]string, err error) {
	if builtIn, err = os.MkdirTemp("", "chat"); err != nil {
		return paths, err
	}
	paths = [2]string{filepath.Join(builtIn, "server"), filepath.Join(builtIn, "client")}
	for i, pkg := range []string{".", "./client"} {
		if out, err := exec.Command("go", "build", "-o", paths[i], pkg).CombinedOutput(); err != nil {
			return paths, fmt.Errorf("go build %s: %v\n%s", pkg, err, out)
		}
	}
	return paths, nil
})

// TestMain removes what programs has built.
func TestMain(m *testing.M) {
	if mark := os.Getenv("CHAT_KEEPER"); mark != "" {
		keep(mark, os.Args[1:])
		return
	}
	code := m.Run()
	os.RemoveAll(builtIn)
	os.Exit(code)
}

// build returns the paths of the server and of the client.
func build(t testing.TB) (server, client string) {
	t.Helper()
	paths, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	return paths[0], paths[1]
}

// inFolder returns a command that runs in a folder of its own with this users.txt, none if it is "".
func inFolder(t testing.TB, usersFile, program string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Dir = t.TempDir()
	if usersFile != "" {
		if err := os.WriteFile(filepath.Join(cmd.Dir, "users.txt"), []byte(usersFile), 0o644); err != nil {
			t.Fatal(err)
		}
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
	timer := time.AfterFunc(patience, func() { cmd.Process.Kill() })
	cmd.Wait()
	if !timer.Stop() {
		t.Errorf("%v did not end", cmd.Args)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// A program is a server that runs as a program of its own.
type program struct {
	*talk
	cmd  *exec.Cmd
	logs *logBuffer    // what it wrote to the console
	done chan struct{} // closed when it has ended
}

// startProgram starts the server as a program, in a folder with this users.txt, and returns it when it accepts.
// The wrapper is a command to run it with, if there is one.
func startProgram(t testing.TB, usersFile string, wrapper ...string) *program {
	t.Helper()
	path, _ := build(t)
	args := append(wrapper, path, "127.0.0.1:0")
	p := &program{&talk{TB: t}, inFolder(t, usersFile, args[0], args[1:]...), new(logBuffer), make(chan struct{})}
	pipe, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(pipe)
	timer := time.AfterFunc(patience, func() { p.cmd.Process.Kill() })
	first, err := lines.ReadString('\n')
	if err != nil || !timer.Stop() {
		t.Fatalf("the server did not start: %q, %v", first, err)
	}
	p.logs.Write([]byte(first))
	p.r = running{server: &server{passwords: users()}, addr: first[strings.LastIndex(first, " ")+1 : len(first)-1]}
	go func() {
		io.Copy(p.logs, lines)
		p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() { p.cmd.Process.Kill(); <-p.done })
	return p
}

// wait waits for the program to end, and returns its exit status.
func (p *program) wait() int {
	p.Helper()
	select {
	case <-p.done:
	case <-time.After(patience):
		p.fail("the server did not end. Its log:\n%s", p.logs)
	}
	return p.cmd.ProcessState.ExitCode()
}

// twoUsers is a users file.
const twoUsers = "alice:password123\nbob:qwerty456\n"

// A bad line ends the program with its number; everything that is allowed is let in.
func TestUsersFile(t *testing.T) {
	program, _ := build(t)
	for _, tc := range []struct{ name, file, want string }{
		{"missing", "", "users.txt: no such file"},
		{"no colon", "alice:x\nbob\n", "users.txt:2: want username:password"},
		{"empty name", ":x\n", "users.txt:1:"},
		{"empty password", "alice:\n", "users.txt:1:"},
		{"blank password", "alice: \t\r\n", "users.txt:1:"},
		{"a blank in the name", "\n\r\nal ice:x\n", "users.txt:3:"},
		{"a blank before the name", " alice:x\n", "users.txt:1:"},
		{"a tab in the name", "al\tice:x\n", "users.txt:1:"},
		{"a control character in the name", "al\x01ice:x\n", "users.txt:1:"},
		{"a control character beyond ASCII", "al\u0085ice:x\n", "users.txt:1:"},
		{"a name that is not UTF-8", "al\xe9:x\n", "users.txt:1:"},
		{"a space that cannot be seen", "al\u00a0ice:x\n", "users.txt:1:"},
		{"a bracket", "[alice:x\n", "users.txt:1:"},
		{"the other bracket", "ali]ce:x\n", "users.txt:1:"},
		{"twice", "alice:x\nbob:y\nalice:z", "users.txt:3:"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			stdout, stderr, status := run(t, inFolder(t, tc.file, program, "127.0.0.1:0"))
			if status != 1 || !strings.Contains(stderr, tc.want) || strings.Count(stderr, "\n") != 1 || stdout != "" {
				t.Errorf("exit status %d, standard error %q, standard output %q, want 1 and one line with %q",
					status, stderr, stdout, tc.want)
			}
		})
	}
	t.Run("good", func(t *testing.T) {
		t.Parallel()
		p := startProgram(t, "\ufeffalice:a:b c \r\n \t\n\nbøb:ü\nlast:one")
		if !strings.Contains(p.logs.String(), " 3 users ") {
			t.Errorf("the log says %q, want 3 users", p.logs)
		}
		p.r.passwords = map[string]string{"alice": "a:b c ", "bøb": "ü", "last": "one"}
		for name := range p.r.passwords {
			p.login(name).say("/quit")
		}
	})
	t.Run("100,000 users", func(t *testing.T) {
		t.Parallel()
		var file strings.Builder
		for i := 0; i < 100000; i++ {
			fmt.Fprintf(&file, "u%d:p%d\n", i, i)
		}
		p := startProgram(t, file.String())
		p.r.passwords["u99999"] = "p99999"
		p.login("u99999").fence()
	})
}

// What is wrong on the command line is said in one line, with the right exit status.
func TestCommandLine(t *testing.T) {
	program, client := build(t)
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	for _, tc := range []struct {
		name   string
		args   []string
		status int
		want   string
	}{
		{"two arguments", []string{program, "127.0.0.1:0", "x"}, 2, "usage: go run . [host:port]"},
		{"no port", []string{program, "127.0.0.1"}, 2, "usage: go run . [host:port]"},
		{"a flag", []string{program, "--help"}, 2, "usage: go run . [host:port]"},
		{"a port in use", []string{program, busy.Addr().String()}, 1, "address already in use"},
		{"no such port", []string{program, "127.0.0.1:99999"}, 1, "99999"},
		{"the client, two arguments", []string{client, "127.0.0.1:0", "x"}, 2, "usage: go run ./client [host:port]"},
		{"the client, no port", []string{client, "-h"}, 2, "usage: go run ./client [host:port]"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			stdout, stderr, status := run(t, inFolder(t, twoUsers, tc.args[0], tc.args[1:]...))
			if status != tc.status || !strings.Contains(stderr, tc.want) || strings.Count(stderr, "\n") != 1 || stdout != "" {
				t.Errorf("exit status %d, standard error %q, standard output %q, want %d and one line with %q",
					status, stderr, stdout, tc.status, tc.want)
			}
		})
	}
}

// A signal ends the server, politely to all.
func TestStopping(t *testing.T) {
	for _, sig := range []os.Signal{syscall.SIGTERM, os.Interrupt, syscall.SIGHUP} {
		t.Run(sig.String(), func(t *testing.T) {
			t.Parallel()
			p := startProgram(t, twoUsers)
			alice := p.login("alice")
			bob := p.login("bob")
			halfway := p.connect("halfway")
			halfway.prompt("Enter username: ")
			alice.hear("bob has joined the chat.")
			alice.fence()
			bob.fence()
			p.cmd.Process.Signal(sig)
			alice.hear("Server is shutting down.")
			alice.end()
			bob.hear("Server is shutting down.")
			bob.end()
			alice.conn.Close()
			bob.conn.Close()
			if status := p.wait(); status != 0 {
				t.Errorf("exit status %d, want 0", status)
			}
			if _, err := net.Dial("tcp", p.r.addr); err == nil {
				t.Error("somebody still accepts connections")
			}
			if !strings.Contains(p.logs.String(), "INFO stopping") {
				t.Errorf("the log is %q, want it to tell of the stop", p.logs)
			}
		})
	}
}

// When the server has stopped, nobody can connect, and who was connected but not logged in does not get in.
func TestStoppingLetsNobodyIn(t *testing.T) {
	t.Parallel()
	c := &talk{TB: t, r: start(t)}
	alice := c.login("alice")
	late := c.connect("bob")
	late.prompt("Enter username: ")
	late.say("bob")
	late.prompt("Enter password: ")
	c.r.stop(c.r.listener)
	alice.hear("Server is shutting down.")
	if conn, err := net.Dial("tcp", c.r.addr); err == nil {
		conn.Close()
		t.Error("the server still listens")
	}
	late.say("qwerty456")
	late.hear("Authentication failed: the server is shutting down.")
	late.end()
}

// hearAll returns the lines until the end of the connection.
func (p *peer) hearAll() []string {
	p.Helper()
	p.conn.SetReadDeadline(time.Now().Add(patience))
	rest, err := io.ReadAll(p.in)
	p.note("%-8s hears  %.200q and the end", p.name, rest)
	if err != nil {
		p.fail("%s heard %.200q, then %v, want the end", p.name, rest, err)
	}
	return strings.Split(strings.TrimSuffix(string(rest), "\n"), "\n")
}

// The log tells what it should, the same on the console and in the file, and no secret.
func TestLog(t *testing.T) {
	t.Parallel()
	p := startProgram(t, twoUsers)
	alice := p.login("alice")
	for _, line := range []string{"/create_group cs", "/msg alice a secret", "/broadcast a secret", "/group_msg cs a secret", "a secret"} {
		alice.say(line)
	}
	alice.hearUntil("Error: a is not a command. To write to all: /broadcast <message>. More: /help")
	for _, tc := range [][2]string{{"alice", "wr0ng"}, {"passw0rd", "wr0ng"}, {"alice", "password123"}} {
		somebody := p.connect("somebody")
		somebody.send(tc[0] + "\n" + tc[1] + "\n")
		somebody.hearAll()
	}
	alice.say("/quit")
	alice.hearUntil("Goodbye!")
	alice.end()
	p.cmd.Process.Signal(syscall.SIGTERM)
	p.wait()
	files, _ := filepath.Glob(filepath.Join(p.cmd.Dir, "logs", "????-??-??.log"))
	if len(files) == 0 {
		t.Fatal("there is no file for today under logs/")
	}
	if info, err := os.Stat(filepath.Dir(files[0])); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the folder logs has mode %v (%v), want rwx for its owner alone", info.Mode(), err)
	}
	var file []byte // two, if midnight was just now
	for _, name := range files {
		part, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		file = append(file, part...)
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v (%v), want rw for its owner alone", name, info.Mode(), err)
		}
	}
	text, address := string(file), `127\.0\.0\.1:\d+`
	for _, want := range []string{
		`INFO serving 2 users on ` + address,
		`INFO alice logged in from ` + address,
		`WARN login of alice from ` + address + ` failed`,
		`WARN login of an unknown user from ` + address + ` failed`,
		`WARN login of alice from ` + address + ` failed: this user is logged in already`,
		`INFO alice logged out from ` + address,
		`INFO stopping: terminated`,
	} {
		if !regexp.MustCompile(`(?m)^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d ` + want + `$`).MatchString(text) {
			t.Errorf("no line %q in the log:\n%s", want, text)
		}
	}
	for _, secret := range []string{"secret", "password123", "qwerty456", "wr0ng", "passw0rd", "group"} {
		if strings.Contains(text, secret) {
			t.Errorf("%q is in the log:\n%s", secret, text)
		}
	}
	if console := p.logs.String(); console != text {
		t.Errorf("the console shows\n%swant what is in the file:\n%s", console, text)
	}
}

// If the log file cannot be opened, the server does not start.
func TestNoLogFile(t *testing.T) {
	t.Parallel()
	server, _ := build(t)
	cmd := inFolder(t, twoUsers, server, "127.0.0.1:0")
	if err := os.WriteFile(filepath.Join(cmd.Dir, "logs"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, stderr, status := run(t, cmd)
	if status != 1 || !strings.Contains(stderr, "cannot open the log file: open logs/") || strings.Count(stderr, "\n") != 1 {
		t.Errorf("exit status %d, standard error %q, want 1 and one line", status, stderr)
	}
}

// Whatever happens to the console, the chat goes on, and a signal ends the server politely.
func TestConsole(t *testing.T) {
	t.Parallel()
	for _, what := range []string{"gone", "stopped"} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			path, _ := build(t)
			near, far, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			cmd := inFolder(t, twoUsers, path, "127.0.0.1:0")
			cmd.Stderr = far
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { cmd.Process.Kill(); near.Close(); far.Close() })
			first, err := bufio.NewReader(near).ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			addr := first[strings.LastIndex(first, " ")+1 : len(first)-1]
			c := &talk{TB: t, r: running{server: &server{passwords: users()}, addr: addr}}
			alice := c.login("alice")
			alice.fence() // her session has written its line of the log, and will not wait for the console
			if what == "gone" {
				near.Close()
				far.Close()
				c.login("bob").say("/quit") // two lines of the log
				alice.hear("bob has joined the chat.", "bob has left the chat.")
			} else { // fill the pipe, so that the next line of the log has to wait
				fd := int(far.Fd())
				syscall.SetNonblock(fd, true)
				for _, piece := range []string{kilo, "."} {
					for err = nil; err == nil; {
						_, err = syscall.Write(fd, []byte(piece))
					}
				}
				syscall.SetNonblock(fd, false)
			}
			alice.fence()
			signalled := time.Now()
			cmd.Process.Signal(syscall.SIGTERM)
			alice.hear("Server is shutting down.")
			alice.end()
			alice.conn.Close()
			timer := time.AfterFunc(patience, func() { cmd.Process.Kill() })
			cmd.Wait()
			timer.Stop()
			if status := cmd.ProcessState.ExitCode(); status != 0 {
				t.Errorf("exit status %d, want 0", status)
			}
			if took := time.Since(signalled); took > 3*time.Second {
				t.Errorf("it took %v to stop, want 3 s at most", took)
			}
		})
	}
}

// What the client prints and returns, whatever ends it.
func TestClient(t *testing.T) {
	_, client := build(t)
	const welcome = prompts + "Welcome to the chat server!\n"
	for _, tc := range []struct {
		name, input, stdout, stderr string
		status                      int
	}{
		{"quits", "alice\npassword123\n/users\n/quit\n", welcome + "Online users (1): alice\nGoodbye!\n", "", 0},
		{"input ends", "alice\npassword123\n/users\n", welcome + "Online users (1): alice\n", "", 0},
		{"input ends without a newline", "alice\npassword123\n/users", welcome + "Online users (1): alice\n", "", 0},
		{"wrong password", "alice\nwrong\n", prompts + "Authentication failed.\n", "", 1},
		{"no input", "", "Enter username: ", "the server closed the connection before the login was done\n", 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command(client, start(t).addr)
			cmd.Stdin = strings.NewReader(tc.input)
			stdout, stderr, status := run(t, cmd)
			if stdout != tc.stdout || stderr != tc.stderr || status != tc.status {
				t.Errorf("standard output %q, standard error %q, exit status %d\nwant %q, %q, %d",
					stdout, stderr, status, tc.stdout, tc.stderr, tc.status)
			}
		})
	}
	t.Run("no server", func(t *testing.T) {
		t.Parallel()
		nobody, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		nobody.Close()
		stdout, stderr, status := run(t, exec.Command(client, nobody.Addr().String()))
		if status != 1 || stdout != "" || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, "is the server running?") {
			t.Errorf("standard output %q, standard error %q, exit status %d, want one clear line and 1", stdout, stderr, status)
		}
	})
	for _, tc := range []struct {
		name, want string
		status     int
		end        func(running)
	}{
		{"the server stops", "Server is shutting down.\n", 0, func(r running) { r.stop(r.listener) }},
		{"the login takes too long", "Authentication failed: no login within 0 seconds.\n", 1, nil},
	} {
		t.Run(tc.name, func(t *testing.T) { // and the client's input goes on: it must not wait for that
			t.Parallel()
			r := start(t, func(s *server) {
				if tc.end == nil {
					s.loginTimeout = 100 * time.Millisecond
				}
			})
			cmd := exec.Command(client, r.addr)
			stdin, _ := cmd.StdinPipe()
			stdout, _ := cmd.StdoutPipe()
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer cmd.Process.Kill()
			c := &talk{TB: t, r: r}
			p := &peer{c, "client", nil, bufio.NewReader(stdout)}
			p.prompt("Enter username: ") // at once, although it does not end in a newline
			if tc.end != nil {
				io.WriteString(stdin, "alice\n")
				p.prompt("Enter password: ")
				io.WriteString(stdin, "password123\n")
				p.prompt("Welcome to the chat server!\n")
				tc.end(r)
			}
			rest, _ := io.ReadAll(p.in)
			cmd.Wait()
			if got := cmd.ProcessState.ExitCode(); got != tc.status || string(rest) != tc.want {
				t.Errorf("it said %q, exit status %d, want %q and %d", rest, got, tc.want, tc.status)
			}
		})
	}
}

// ---- Hostile, slow and dead clients ----
//
// What a client can do by mischief or by bad luck, and that nobody else has to pay for it. Some of these
// tests wait for the server to lose its patience; they are the slow ones.

// serverSide returns the server's end of a client that is online.
func (r running) serverSide(name string) *client {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.online[name]
}

// count returns how many clients are online.
func (r running) count() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.online)
}

// taken reports whether a name is in use.
func (r running) isTaken(name string) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.taken[name]
}

// stuck returns a peer that has logged in and reads nothing more. The system's buffers on both sides
// are made small, so that little is needed to fill them.
func (c *talk) stuck(name string) *peer {
	c.Helper()
	p := c.login(name)
	p.conn.SetReadBuffer(4 << 10)
	c.r.serverSide(name).conn.SetWriteBuffer(4 << 10)
	return p
}

// kilo is a text that makes a line of about a kilobyte.
var kilo = strings.Repeat("x", 1000)

// While one sender waits for stuck clients, all others go on at once; it waits once, whether one client
// is stuck or ten are; and then they are gone.
func TestStuckClients(t *testing.T) {
	t.Parallel()
	const slow = 3 * time.Second
	for _, n := range []int{1, 10} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			c := &talk{TB: t, r: start(t, func(s *server) { s.slowTimeout = slow })}
			for i := 0; i < n; i++ {
				c.stuck(fmt.Sprint("u", i))
			}
			const chatters = 50
			for i := 0; i < chatters; i++ { // each writes to himself, again when he has heard it
				p := c.login(fmt.Sprint("u", 20+i))
				go func() {
					for line, err := "Message sent", error(nil); err == nil; line, err = p.in.ReadString('\n') {
						if strings.HasPrefix(line, "Message sent") {
							io.WriteString(p.conn, "/msg "+p.name+" hi\n")
						}
					}
				}()
			}
			sender, alice, bob := c.login("charlie"), c.login("alice"), c.login("bob")
			alice.hear("bob has joined the chat.")
			alice.say("/create_group quiet")
			alice.hear("Group quiet created.")
			gone := make(chan struct{})
			var waits []time.Duration
			go func() { // until the stuck ones are gone
				defer close(gone)
				reply := bufio.NewReader(sender.conn)
				for c.r.serverSide("u0") != nil || c.r.count() > 3+chatters {
					said := time.Now()
					fmt.Fprintf(sender.conn, "/broadcast %s\n", kilo)
					for {
						line, err := reply.ReadString('\n')
						if err != nil {
							t.Errorf("the sender was cut off: %v", err)
							return
						}
						if strings.HasPrefix(line, "Message sent") {
							break
						}
					}
					if took := time.Since(said); took > slow/2 {
						waits = append(waits, took)
					}
				}
			}()
			next := 100
			for done := false; !done; {
				select {
				case <-gone:
					done = true
				default:
				}
				said := time.Now()
				alice.note("alice writes to bob")
				io.WriteString(alice.conn, "/msg bob ping\n")
				bob.hearUntil("[alice]: ping")
				alice.hearUntil("Message sent to bob.")
				io.WriteString(alice.conn, "/create_group new\n/leave_group new\n")
				alice.hearUntil("You left the group new.")
				if next < 110 { // a new client is welcomed at once, too
					c.login(fmt.Sprint("u", next)).conn.Close()
					next++
				}
				if took := time.Since(said); took > slow/2 {
					c.fail("a private message, a group and a login took %v while %d clients were stuck", took, n)
				}
			}
			if len(waits) > 1 || len(waits) == 1 && waits[0] > slow*3/2 {
				c.fail("the sender waited %v, want one wait of %v at most", waits, slow)
			}
			for i := 0; i < n; i++ {
				if !strings.Contains(c.r.logs.String(), fmt.Sprintf("WARN u%d from ", i)) {
					t.Errorf("the log does not tell that u%d was dropped:\n%.2000s", i, c.r.logs)
				}
			}
		})
	}
}

// One message waits for slowTimeout in all, however many clients read just enough to stay and have full
// queues all the time. Here their writers take nothing from the queues: only the sender can end its
// waiting.
func TestTricklingClients(t *testing.T) {
	t.Parallel()
	c := &talk{TB: t, r: start(t, func(s *server) { s.slowTimeout = 200 * time.Millisecond })}
	const trickling = 200 // 40 s, if each were waited for
	conns := pairs(t, trickling+2)
	var clients []*client
	for _, pair := range conns {
		client := &client{conn: pair[1].(*net.TCPConn), queue: make(chan string, 1), lastLine: make(chan string, 1), done: make(chan struct{})}
		clients = append(clients, client)
		go func() { // does what a writer does when its connection is closed
			client.conn.Read(make([]byte, 1))
			close(client.done)
		}()
	}
	// One of them has room after all, while a message waits for it. It must not be dropped, now or later.
	late, punctual := clients[trickling], clients[trickling+1]
	c.r.send("fills the queue\n", append(clients[:trickling:trickling], late)...)
	go func() {
		<-punctual.queue // the message has found the other queue full before
		<-late.queue
	}()
	if n := c.r.send("waits for room\n", late, punctual); n != 2 {
		t.Errorf("%d took the line, want 2", n)
	}
	took := make(chan int)
	go func() { took <- c.r.send("one message\n", append(clients[:trickling:trickling], punctual)...) }()
	select {
	case n := <-took:
		if n != 1 {
			t.Errorf("%d took the line, want 1", n)
		}
	case <-time.After(patience):
		t.Fatal("the message still waits")
	}
	for i, pair := range conns[:trickling] {
		pair[0].SetReadDeadline(time.Now().Add(patience))
		if _, err := pair[0].Read(make([]byte, 1)); err != io.EOF {
			t.Fatalf("client %d got %v, want the end of its connection", i, err)
		}
	}
	for _, pair := range conns[trickling:] {
		if _, err := pair[1].Write([]byte(".")); err != nil {
			t.Errorf("a client that had room was dropped: %v", err)
		}
	}
}

// A client whose queue is full but moves on is not dropped because of another that is stuck.
func TestBystander(t *testing.T) {
	t.Parallel()
	const slow = time.Second
	c := &talk{TB: t, r: start(t, func(s *server) { s.slowTimeout = slow })}
	var both []*client
	for _, pair := range pairs(t, 2) {
		both = append(both, &client{conn: pair[1].(*net.TCPConn), queue: make(chan string, 1), done: make(chan struct{})})
	}
	stuck, busy := both[0], both[1]
	go func() { // as a writer does whose connection is closed
		stuck.conn.Read(make([]byte, 1))
		close(stuck.done)
	}()
	c.r.send("fills the queue\n", stuck, busy)
	stop := make(chan struct{})
	go func() { // somebody else keeps the queue full
		for c.r.send("from somebody else\n", busy) == 1 {
		}
	}()
	go func() { // and its writer takes a line from time to time
		for {
			select {
			case <-stop:
				close(busy.done)
				return
			case <-time.After(slow / 10):
				<-busy.queue
			}
		}
	}()
	if n := c.r.send("waits for room\n", stuck, busy); n != 1 {
		t.Errorf("%d took the line, want the busy one alone", n)
	}
	if _, err := busy.conn.Write([]byte(".")); err != nil {
		t.Errorf("the busy one was dropped: %v", err)
	}
	close(stop)
}

// All sessions end when the server stops, although one client does not read, and nothing follows the goodbye.
func TestStoppingEndsAll(t *testing.T) {
	t.Parallel()
	c := &talk{TB: t, r: start(t, func(s *server) { s.slowTimeout = patience })}
	stuck := c.stuck("u0")
	alice, bob := c.login("alice"), c.login("bob")
	alice.hear("bob has joined the chat.")
	line, queue := kilo+"\n", c.r.serverSide("u0").queue
	for full := false; !full; {
		select {
		case queue <- line:
		case <-time.After(200 * time.Millisecond): // the writer does not take any more
			full = true
		}
	}
	for _, p := range []*peer{alice, bob} { // they chat as fast as they can
		go func() {
			for {
				if _, err := io.WriteString(p.conn, "/msg alice hi\n/msg bob hi\n/users\n"); err != nil {
					return
				}
			}
		}()
	}
	alice.hearUntil("[bob]: hi")
	c.r.stop(c.r.listener)
	for _, p := range []*peer{alice, bob} {
		all := p.hearAll()
		if last := all[len(all)-1]; last != "Server is shutting down." {
			t.Errorf("%s heard %q last", p.name, last)
		}
		for _, line := range all {
			if strings.HasSuffix(line, " has left the chat.") {
				t.Errorf("%s heard %q, although all are told that the server stops", p.name, line)
			}
		}
	}
	stuck.conn.Close()
}

// Who leaves cannot be written to any more as soon as others hear of it, but keeps the name until all
// have: here until a client that does not read is given up.
func TestLeaving(t *testing.T) {
	t.Parallel()
	c := &talk{TB: t, r: start(t, func(s *server) { s.slowTimeout = 2 * time.Second })}
	alice, bob := c.login("alice"), c.login("bob")
	alice.hear("bob has joined the chat.")
	stuck := c.stuck("u0")
	alice.hear("u0 has joined the chat.")
	bob.hear("u0 has joined the chat.")
	queue, line := c.r.serverSide(stuck.name).queue, kilo+"\n"
	for full := false; !full; {
		select {
		case queue <- line:
		case <-time.After(200 * time.Millisecond): // the writer does not take any more
			full = true
		}
	}
	alice.say("/quit")
	alice.hear("Goodbye!")
	bob.hear("alice has left the chat.")
	bob.say("/msg alice still there?")
	bob.hear("Error: alice is not online. Who is: /users")
	bob.say("/users")
	bob.hear("Online users (2): bob, u0")
	second := c.connect("alice")
	second.send("alice\npassword123\n")
	second.prompt(prompts)
	second.hear("Authentication failed: this user is logged in already.")
	alice.end() // when all have heard of it
	bob.hear("u0 has left the chat.")
	c.login("alice")
	bob.hear("alice has joined the chat.")
	bob.fence()
}

// A client that reads late gets everything, in order.
func TestLateReader(t *testing.T) {
	t.Parallel()
	c := &talk{TB: t, r: start(t)}
	bob := c.login("bob")
	bob.conn.SetReadBuffer(64 << 10)
	c.r.serverSide("bob").conn.SetWriteBuffer(64 << 10)
	alice := c.login("alice")
	bob.hear("alice has joined the chat.")
	const n = 5000
	go func() {
		out := bufio.NewWriter(alice.conn)
		for i := 0; i < n; i++ {
			fmt.Fprintf(out, "/msg bob %d %s\n", i, kilo[:100])
		}
		out.Flush()
	}()
	go io.Copy(io.Discard, alice.in)
	for i := 0; i < n; i++ {
		if i%(n/2) == 0 {
			time.Sleep(2 * time.Second) // not to wait for anything: bob is busy with other things
		}
		if got, want := bob.line(), fmt.Sprintf("[alice]: %d %s", i, kilo[:100]); got != want {
			bob.fail("bob heard %q, want %q", got, want)
		}
	}
}

// A client that asks and does not listen is dropped.
func TestNeverReads(t *testing.T) {
	t.Parallel()
	c := &talk{TB: t, r: start(t, func(s *server) { s.slowTimeout = 500 * time.Millisecond })}
	bob := c.login("bob")
	alice := c.stuck("alice")
	bob.hear("alice has joined the chat.")
	for i := 0; i < 10000; i++ {
		if _, err := io.WriteString(alice.conn, "/help\n"); err != nil {
			break
		}
	}
	bob.hear("alice has left the chat.")
	if !strings.Contains(c.r.logs.String(), "WARN alice") {
		t.Errorf("the log does not tell that alice was dropped:\n%s", c.r.logs)
	}
	bob.fence()
}

// Connections that are reset while they are written to disturb nobody.
func TestResets(t *testing.T) {
	t.Parallel()
	c := &talk{TB: t, r: start(t)}
	alice := c.login("alice")
	alice.say("/create_group cs")
	alice.hear("Group cs created.")
	const n = 30
	for i := 0; i < n; i++ {
		p := c.login(fmt.Sprint("u", i))
		alice.hear(p.name + " has joined the chat.")
		p.say("/join_group cs")
		p.hear("You joined the group cs.")
		alice.hear(p.name + " has joined the group cs.")
		go func() {
			io.ReadAll(io.LimitReader(p.in, int64(2000*(i+1))))
			p.conn.SetLinger(0) // a reset instead of a polite end
			p.conn.Close()
		}()
	}
	left := 0
	for left < n {
		alice.say("/group_msg cs " + kilo)
		for line := ""; !strings.HasPrefix(line, "Message sent to group cs ("); {
			line = alice.line()
			if strings.HasSuffix(line, " has left the chat.") {
				left++
			}
		}
	}
	alice.say("/users")
	alice.hear("Online users (1): alice")
	alice.say("/groups_users")
	alice.hear("Groups (1):", "  cs (1): alice")
}

// descriptors returns how many files and sockets this process has open.
func descriptors() int {
	entries, _ := os.ReadDir("/proc/self/fd")
	return len(entries)
}

// Not parallel: it counts what the process has open. After 2,000 lives, nothing of them is left.
func TestLivesLeaveNothing(t *testing.T) {
	c := &talk{TB: t, r: start(t)}
	alice := c.login("alice")
	goroutines, open := runtime.NumGoroutine(), descriptors()
	const workers, lives = 20, 100
	var wg sync.WaitGroup
	for w := 0; w < workers; w++ {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := 0; i < lives; i++ {
				conn, err := net.Dial("tcp", c.r.addr)
				if err != nil {
					t.Error(err)
					return
				}
				in := bufio.NewReader(conn)
				conn.SetDeadline(time.Now().Add(patience))
				fmt.Fprintf(conn, "u%d\np%d\n/create_group g%d\n/join_group all\n/create_group all\n/groups_users\n", w, w, w)
				for line := ""; err == nil && !strings.HasPrefix(line, "Groups ("); {
					line, err = in.ReadString('\n')
				}
				if err != nil {
					t.Errorf("u%d in life %d: %v", w, i, err)
				}
				if i%2 == 0 {
					conn.(*net.TCPConn).SetLinger(0)
					conn.Close()
				} else {
					io.WriteString(conn, "/quit\n")
				}
				io.Copy(io.Discard, in) // until the name is free, or at once after a reset
				conn.Close()
				for late := time.Now().Add(patience); c.r.isTaken(fmt.Sprintf("u%d", w)); runtime.Gosched() {
					if time.Now().After(late) {
						t.Errorf("the name u%d is not freed", w)
						return
					}
				}
			}
		}()
	}
	go func() { wg.Wait(); io.WriteString(alice.conn, "/users\n") }()
	alice.hearUntil("Online users (1): alice")
	alice.conn.CloseWrite()
	alice.end()
	c.until(fmt.Sprintf("there are %d goroutines and %d descriptors again", goroutines, open), func() bool {
		return runtime.NumGoroutine() <= goroutines && descriptors() <= open
	})
	c.r.mu.Lock()
	defer c.r.mu.Unlock()
	if len(c.r.groups)+len(c.r.online)+len(c.r.taken) != 0 {
		t.Errorf("left are: groups %v, online %v, names %v", c.r.groups, c.r.online, c.r.taken)
	}
}

// A stranger who connects and closes again leaves nothing: no line of the log, and nobody waits.
func TestStrangers(t *testing.T) {
	t.Parallel()
	c := &talk{TB: t, r: start(t, func(s *server) { s.refusalDelay = time.Hour })}
	for i := 0; i < 200; i++ {
		p := c.connect("stranger")
		p.prompt("Enter username: ")
		p.conn.CloseWrite()
		p.end()
	}
	if logs := c.r.logs.String(); logs != "" {
		t.Errorf("the log tells of them:\n%s", logs)
	}
}

// A client that reads slowly, but without a pause, is not dropped, and gets all that it is sent, a flood
// of messages or long lines: here a megabyte in a second, which is what a write may take.
func TestSlowReader(t *testing.T) {
	t.Parallel()
	for _, what := range []string{"messages", "lists"} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			c := &talk{TB: t, r: start(t, func(s *server) { s.slowTimeout = time.Second })}
			bob, alice := c.login("bob"), c.login("alice")
			bob.hear("alice has joined the chat.")
			bob.conn.SetReadBuffer(256 << 10)
			sender, said := alice, "/msg bob "+kilo+"\n"
			if what == "lists" {
				sender, said = bob, "/groups_users\n"
				members := clients{}
				for i := 0; i < 15000; i++ {
					name := fmt.Sprint(i, kilo[:60])
					members[name] = &client{name: name}
				}
				c.r.mu.Lock()
				c.r.groups["all"] = members
				c.r.mu.Unlock()
			}
			go func() {
				for i := 0; sender == alice || i < 8; i++ { // eight lists, of a megabyte each, are enough
					if _, err := io.WriteString(sender.conn, said); err != nil {
						return // at the end of the test
					}
				}
			}()
			go io.Copy(io.Discard, alice.in)
			piece := make([]byte, 10000)
			for total := 0; total < 6<<20; {
				bob.conn.SetReadDeadline(time.Now().Add(patience))
				time.Sleep(10 * time.Millisecond) // not to wait for anything: bob is slow
				n, err := bob.in.Read(piece)
				total += n
				if err != nil {
					bob.fail("after %d bytes: %v. The log:\n%s", total, err, c.r.logs)
				}
			}
		})
	}
}

// What a command answers is queued line by line, so what a client can make the server hold is bounded.
func TestLongList(t *testing.T) {
	t.Parallel()
	c := &talk{TB: t, r: start(t)}
	p := c.stuck("alice")
	for i := 0; i < 20000; i++ {
		c.r.mu.Lock()
		c.r.groups[fmt.Sprint("g", i)] = clients{"alice": c.r.online["alice"]}
		c.r.mu.Unlock()
	}
	queue := c.r.serverSide("alice").queue
	p.send("/groups_users\n/groups_users\n")
	c.until("the queue is full", func() bool { return len(queue) == cap(queue) })
	for range 100 {
		if line := <-queue; strings.Count(line, "\n") != 1 {
			c.fail("%.100q is in the queue, want a line", line)
		}
	}
}

// Clients that say nothing are shut out in time, and cost the others nothing.
func TestSilentConnections(t *testing.T) {
	t.Parallel()
	c := &talk{TB: t, r: start(t, func(s *server) { s.loginTimeout = 3 * time.Second })}
	var silent []*peer
	for i := 0; i < 500; i++ {
		silent = append(silent, c.connect(fmt.Sprint("silent ", i)))
	}
	alice := c.login("alice")
	alice.fence()
	for _, p := range silent {
		p.prompt("Enter username: ")
		p.hear("Authentication failed: no login within 3 seconds.")
		p.end()
	}
	alice.fence()
}

// atOnce logs n clients in at the same time, and returns what each heard first after the prompts.
func (c *talk) atOnce(n int, account func(i int) (name, password string)) (lines []string, peers []*peer) {
	lines, peers = make([]string, n), make([]*peer, n)
	for i := range peers {
		peers[i] = c.connect(fmt.Sprint(i))
	}
	var wg sync.WaitGroup
	for i, p := range peers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			name, password := account(i)
			fmt.Fprintf(p.conn, "%s\n%s\n", name, password)
			lines[i], _ = p.in.ReadString('\n')
		}()
	}
	wg.Wait()
	return lines, peers
}

// Of 50 who log in as one user at once, one gets in; so does each of 50 users, whoever else is refused.
func TestLoginsAtOnce(t *testing.T) {
	t.Parallel()
	const welcome = prompts + "Welcome to the chat server!\n"
	c := &talk{TB: t, r: start(t)}
	lines, _ := c.atOnce(50, func(int) (string, string) { return "alice", "password123" })
	won := 0
	for _, line := range lines {
		if line == welcome {
			won++
		} else if line != prompts+"Authentication failed: this user is logged in already.\n" {
			t.Errorf("a second alice heard %q", line)
		}
	}
	if won != 1 {
		t.Errorf("%d of 50 logged in as alice, want 1", won)
	}
	lines, _ = c.atOnce(350, func(i int) (string, string) {
		if i%7 == 0 {
			return fmt.Sprint("u", i/7), fmt.Sprint("p", i/7)
		}
		return fmt.Sprint("u", i/7), "wrong"
	})
	for i, line := range lines {
		want := prompts + "Authentication failed.\n"
		if i%7 == 0 {
			want = welcome
		}
		if line != want {
			t.Errorf("login %d of 350 at once was answered %q, want %q", i, line, want)
		}
	}
}

// Of 50 who create a group at once, one does.
func TestCreationsAtOnce(t *testing.T) {
	t.Parallel()
	c := &talk{TB: t, r: start(t)}
	_, peers := c.atOnce(50, func(i int) (string, string) { return fmt.Sprint("u", i), fmt.Sprint("p", i) })
	replies := make(chan string)
	for _, p := range peers {
		go func() {
			io.WriteString(p.conn, "/create_group cs\n")
			for line := ""; ; {
				var err error
				if line, err = p.in.ReadString('\n'); err != nil || !strings.Contains(line, " has joined the chat.") {
					replies <- line
					return
				}
			}
		}()
	}
	count := map[string]int{}
	for range peers {
		count[<-replies]++
	}
	if count["Group cs created.\n"] != 1 || count["Error: group cs exists already. To join it: /join_group cs\n"] != 49 {
		t.Errorf("the answers were %v, want one creation", count)
	}
}

// In a storm of logins, joins and ends, an observer hears of each user joining and leaving in turn, and
// the lists are right in the end.
func TestStorm(t *testing.T) {
	t.Parallel()
	c := &talk{TB: t, r: start(t)}
	alice := c.login("alice")
	alice.say("/create_group all")
	alice.hear("Group all created.")
	const n, rounds = 20, 20
	var wg sync.WaitGroup
	for i := 0; i < n; i++ {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for round := 0; round < rounds; round++ {
				p := c.connect(fmt.Sprint("u", i))
				fmt.Fprintf(p.conn, "u%d\np%d\n/join_group all\n/broadcast hi\n/leave_group all\n/join_group all\n/quit\n", i, i)
				if got, err := io.ReadAll(p.in); !strings.Contains(string(got), "Goodbye!\n") || err != nil {
					t.Errorf("u%d in round %d got %.300q, %v", i, round, got, err)
				}
			}
		}()
	}
	go func() { wg.Wait(); io.WriteString(alice.conn, "/users\n/groups_users\n") }()
	in := map[string]bool{}
	events := 0
	for _, line := range alice.hearUntil("Online users (1): alice") {
		who, what, _ := strings.Cut(line, " ")
		if what == "has joined the chat." || what == "has left the chat." {
			if joins := what == "has joined the chat."; in[who] == joins {
				t.Errorf("%q, but it was so before", line)
			}
			in[who] = !in[who]
			events++
		}
	}
	alice.hear("Groups (1):", "  all (1): alice")
	if events != 2*n*rounds {
		t.Errorf("%d users joined or left, want %d", events, 2*n*rounds)
	}
}

// Whatever bytes come, before the login or after it, nobody else hears of them.
func TestGarbage(t *testing.T) {
	t.Parallel()
	random := make([]byte, 100000)
	rand.New(rand.NewSource(1)).Read(random)
	big := strings.Repeat("0123456789", 1<<20)
	for name, garbage := range map[string]string{
		"random bytes":                       string(random),
		"HTTP":                               "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"TLS":                                "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + string(random[:500]),
		"10 MB":                              big,
		"10 MB raw, with blanks and slashes": strings.ReplaceAll(big, "012345678", "x/msg bob"),
		"zeros":                              strings.Repeat("\x00", 1<<20),
	} {
		for _, loggedIn := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, logged in %v", name, loggedIn), func(t *testing.T) {
				t.Parallel()
				for _, raw := range []bool{false, true} {
					c := &talk{TB: t, r: start(t), raw: raw}
					bob := c.login("bob")
					if loggedIn {
						alice := c.login("alice")
						bob.hear("alice has joined the chat.")
						go io.Copy(io.Discard, alice.conn)
						io.WriteString(alice.conn, garbage)
						bob.fence()
						alice.conn.Close()
						bob.hear("alice has left the chat.")
					} else {
						stranger := c.connect("stranger")
						go func() { // may be cut short by the refusal
							io.WriteString(stranger.conn, garbage)
							stranger.conn.CloseWrite()
						}()
						if got, _ := io.ReadAll(io.LimitReader(stranger.in, 60)); !strings.Contains(string(got), "Authentication failed.\n") {
							t.Errorf("a stranger heard %q", got)
						}
						stranger.conn.Close()
					}
					bob.fence()
				}
			})
		}
	}
}

// Without file descriptors, the server waits, says so at its own pace, and goes on when there are some.
func TestNoDescriptors(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("prlimit"); err != nil {
		t.Skip("there is no prlimit on this machine")
	}
	p := startProgram(t, twoUsers, "prlimit", "--nofile=64")
	alice := p.login("alice")
	var many []*peer
	for i := 0; i < 200; i++ {
		many = append(many, p.connect(fmt.Sprint("connection ", i)))
	}
	p.r.logs = p.logs
	p.until("the lack is logged", func() bool { return strings.Contains(p.logs.String(), "ERROR cannot accept") })
	alice.fence()
	for _, c := range many {
		c.conn.Close()
	}
	bob := p.login("bob")
	alice.hear("bob has joined the chat.")
	bob.fence()
	if n := strings.Count(p.logs.String(), "ERROR"); n > 10 {
		t.Errorf("%d errors in the log, want one for each pause", n)
	}
	if files, _ := filepath.Glob(filepath.Join(p.cmd.Dir, "logs", "*.log")); len(files) == 0 {
		t.Error("there is no log file")
	} else if text, _ := os.ReadFile(files[0]); !strings.Contains(string(text), "ERROR cannot accept") {
		t.Errorf("the log file does not tell of it:\n%s", text)
	}
}

// A client that does not read delays the end of the server by its two seconds, and nobody else's last line.
func TestStoppingWithStuckClient(t *testing.T) {
	t.Parallel()
	p := startProgram(t, "alice:password123\nbob:qwerty456\ncharlie:secure789\n")
	p.login("bob") // and never reads again
	alice, charlie := p.login("alice"), p.login("charlie")
	alice.hear("charlie has joined the chat.")
	for sent := 0; ; sent++ { // until the queue is full: then there is no answer
		io.WriteString(alice.conn, "/msg bob "+kilo+"\n")
		alice.conn.SetReadDeadline(time.Now().Add(time.Second))
		if line, err := alice.in.ReadString('\n'); err != nil {
			break
		} else if line != "Message sent to bob.\n" {
			alice.fail("heard %q", line)
		}
	}
	signalled := time.Now()
	p.cmd.Process.Signal(syscall.SIGTERM)
	charlie.hear("Server is shutting down.")
	if status := p.wait(); status != 0 {
		t.Errorf("exit status %d, want 0", status)
	}
	if took := time.Since(signalled); took > 3*time.Second {
		t.Errorf("it took %v to stop, want 3 s at most", took)
	}
}

// ---- Fuzzing ----
//
// Both run their seeds with the tests. To look for more, see TESTING.md.

// A choppy reader returns what it has in pieces.
type choppy struct {
	rest string
	cuts []byte // the sizes of the pieces, from the last, less one
}

// Read returns the next piece.
func (c *choppy) Read(b []byte) (int, error) {
	if c.rest == "" {
		return 0, io.EOF
	}
	n := min(len(c.rest), len(b))
	if len(c.cuts) > 0 {
		n = min(n, 1+int(c.cuts[len(c.cuts)-1]))
		c.cuts = c.cuts[:len(c.cuts)-1]
	}
	copy(b, c.rest[:n])
	c.rest = c.rest[n:]
	return n, nil
}

// FuzzFraming: however the stream of a line client is cut, it gives the same messages.
func FuzzFraming(f *testing.F) {
	f.Add("alice\npassword123\n/users\n", []byte{0, 4, 1})
	f.Add("a\r\nb\r\r\n\r\n\nc", []byte{1, 0, 0, 0})
	f.Add("a\n\r", []byte{})
	f.Add(strings.Repeat("x", 1024)+"\r\n"+strings.Repeat("y", 1025)+"\n", []byte{255, 255, 255, 255, 1})
	f.Add(strings.Repeat("x", 9000)+"\nend", []byte{255, 0, 255})
	f.Add(strings.Repeat("x", 8*maxMessage), []byte{})
	f.Fuzz(func(t *testing.T, stream string, cuts []byte) {
		messages := func(cuts []byte) (all []string) {
			in := &messageReader{input: bufio.NewReaderSize(&choppy{stream, cuts}, maxRead), lines: true}
			for {
				message, err := in.next()
				if err == nil || message != "" {
					all = append(all, message)
				}
				if err != nil {
					return all
				}
			}
		}
		whole, cut := messages(nil), messages(cuts)
		if !slices.Equal(whole, cut) {
			t.Fatalf("%.300q\nis %.300q\ncut  %.300q", stream, whole, cut)
		}
		var want []string // and they are what lies between the newlines
		for _, line := range strings.SplitAfter(stream, "\n") {
			message := strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r")
			if message != "" || strings.HasSuffix(line, "\n") { // a blank one without its newline is none
				want = append(want, message)
			}
		}
		if len(want) != len(whole) {
			t.Fatalf("%.300q\nis %d messages %.300q\nwant %d", stream, len(whole), whole, len(want))
		}
		for i := range want {
			if whole[i] != want[i] && (len(want[i]) <= maxMessage || len(whole[i]) <= maxMessage) {
				t.Fatalf("message %d is %q, want %q", i, whole[i], want[i])
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
		var both [2]*client
		for i, name := range []string{"alice", "bob"} {
			c := &client{name: name, queue: make(chan string, 30), conn: new(net.TCPConn)}
			s.online[name], s.taken[name] = c, true
			both[i] = c
		}
		alice, bob := both[0], both[1]
		s.groups["cs"] = clients{"alice": alice, "bob": bob}
		reply, _ := s.execute(alice, message)
		s.send(reply+"\n", alice)
		for _, c := range both {
			for len(c.queue) > 0 {
				line := <-c.queue
				if !strings.HasSuffix(line, "\n") || !utf8.ValidString(line) {
					t.Fatalf("%s gets %q, which is no line of UTF-8", c.name, line)
				}
				if c == bob && (strings.Count(line, "\n") != 1 || !strings.HasPrefix(line, "[alice]") && !strings.HasPrefix(line, "alice has ")) {
					t.Fatalf("bob gets %q", line)
				}
				for _, r := range line {
					if unicode.IsControl(r) && r != '\t' && r != '\n' {
						t.Fatalf("%s gets %q, with a control character in it", c.name, line)
					}
				}
			}
		}
	})
}

// ---- Grading: the 37 cases of the assignment, for this server or any other ----
//
// Without flags, each case gets a server of this package. With -exec, it gets a server in any language,
// which is started afresh for it; with -addr, all get one that runs already. TESTING.md tells how.
//
// The marks come from playing each case as the course did: a driver types lines into terminals, about
// stepPause apart and whether or not anything was answered, and each terminal sends every line at once,
// without a newline. A case that fails is played once more at leisure: the driver waits for each answer.
// A server that passes only then is right, but takes what one read brings for one message.

var (
	gradeAddr   = flag.String("addr", "", "TestAssignment: grade the server that runs at this `address`")
	gradeExec   = flag.String("exec", "", "TestAssignment: start the server with this shell `command` for each case")
	gradeDir    = flag.String("dir", "", "TestAssignment: the `folder` that -exec runs in; a pattern grades many")
	gradeUsers  = flag.String("users", "", "TestAssignment: the `file` of at least 100 users that the server shall use")
	gradeReport = flag.String("report", "", "TestAssignment: a `folder` to write grades.csv and a report for each submission into")
)

// How long the grader waits.
const (
	stepPause  = 6 * time.Millisecond   // between two steps of the driver
	shortPause = time.Millisecond       // the same in the two stress cases
	startTime  = 10 * time.Second       // for a server to accept its first client
	silence    = 2 * time.Second        // when nothing has come for so long, nothing more is waited for
	hush       = 300 * time.Millisecond // when all that should come is there: for what should not come
	caseTime   = time.Minute            // for the steps of a case
	portTime   = 70 * time.Second       // for the port of a server that was killed to be free again
)

// A gradedCase is one case: its steps and its checks, divided by semicolons.
//
//	1 in            terminal 1 starts a client and types name and password of the first user
//	4 in as 2       the same, but with the second user's name and password
//	2 in wrong      the same, but with a wrong password
//	5 opens         terminal 5 starts a client; nothing is typed
//	1: /users       the line is typed into terminal 1
//	wait 1 CS425    the driver waits until terminal 1 has shown CS425, or nothing more comes
//	hurry           from here on, steps follow faster
//
//	2 3 in          the same as "2 in; 3 in"; and so with all others
//
//	1 2 has T1      terminals 1 and 2 have both shown the text T1
//	1 lacks T1      terminal 1 has not
//	5 has 2 lines with left
//
// u1 and p1 stand for name and password of the first user, T1 for a text of several words, and REFUSAL
// for any of the words fail, error, exist, not.
type gradedCase struct {
	name          string
	marks         float64
	steps, checks string
}

// What several cases share.
const (
	four       = "1 2 3 4 in; "
	all5       = "1 2 3 4 5 has welcome; "
	joinCS425  = "wait 1 CS425; 2 3 4: /join_group CS425; "
	oneGroup   = "1 in; 1: /create_group CS427; wait 1 CS427; "
	fourGroups = oneGroup + "2 in; 2: /create_group CS428; wait 2 CS428; 3 in; 3: /create_group CS429; wait 3 CS429; " +
		"4 in; 4: /create_group CS430; wait 4 CS430; 5 in; "
	join4 = "5: /join_group CS427; 5: /join_group CS428; 5: /join_group CS429; 5: /join_group CS430; "
)

// assignment returns the cases.
func assignment() []gradedCase {
	return []gradedCase{
		{"01_auth_valid_login", 1, "1 in", "1 has Welcome"},
		{"02_auth_wrong_login", 1, "1 in wrong", "1 has failed"},
		{"03_msg_to_user_offline", 1, "1 in; 1: /msg u9 T1", "1 has no"},
		{"04_msg_to_user_online", 1, "1 2 in; 1: /msg u2 T1", "2 has T1"},
		{"05_broadcast_by_one", 1, four + "1: /broadcast T1", "2 3 4 has T1"},
		{"06_group_create", 1, "1 in; 1: /create_group IITK", "1 has creat"},
		{"07_group_create_twice", 1, "1 in; 1 1: /create_group IITK", "1 has welcome; 1 has REFUSAL"},
		{"08_group_join", 1, "1 2 in; 1: /create_group CS425; wait 1 CS425; 2: /join_group CS425", "2 has join"},
		{"09_group_join_missing", 1, "1 2 in; 1: /create_group CS425; 2: /join_group CS888", "2 has welcome; 2 has REFUSAL"},
		{"10_group_msg", 1, "1 2 in; 1: /create_group CS425; wait 1 CS425; 2: /join_group CS425; wait 2 join; 1: /group_msg CS425 T1", "2 has T1"},
		{"11_group_msg_missing", 1, "1 2 in; 1: /create_group CS425; 1: /group_msg CS888 T1", "1 has welcome; 1 has REFUSAL"},
		{"12_group_leave", 1, "1 2 in; 1: /create_group CS425; wait 1 CS425; 2: /join_group CS425; 2: /leave_group CS425", "2 has left"},
		{"13_group_msg_after_leave", 1, "1 2 in; 1: /create_group CS425; wait 1 CS425; 2: /join_group CS425; 2: /leave_group CS425; " +
			"2: /group_msg CS425 T1", "2 has welcome; 2 has REFUSAL"},
		{"14_auth_exit_and_return", 1.5, "1 2 in; 1: /msg u2 T1; 2: /exit; 3 in; 4 in as 2; 1: /msg u2 T2", "4 has welcome; 4 has T2"},
		{"15_msg_to_three", 1.5, four + "1: /msg u2 T1; 1: /msg u3 T2; 1: /msg u4 T3", "2 3 4 has welcome; 2 has T1; 3 has T2; 4 has T3"},
		{"16_msg_chain", 1.5, four + "1: /msg u2 T1; 2: /msg u3 T2; 3: /msg u4 T3; 4: /msg u1 T4",
			"1 2 3 4 has welcome; 2 has T1; 3 has T2; 4 has T3; 1 has T4"},
		{"17_msg_both_ways", 1.5, "1 2 in; 1: /msg u2 T1; 2: /msg u1 T2", "1 2 has welcome; 2 has T1; 1 has T2"},
		{"18_broadcast_while_users_come_and_go", 1.5, four + "1: /broadcast T1; 5 in; 1: /broadcast T2; 1: /exit; 2: /broadcast T3",
			"1 2 3 4 has welcome; 2 3 4 has T1; 2 3 4 5 has T2; 3 4 5 has T3; 1 lacks T3"},
		{"19_broadcast_by_four", 1.5, four + "1: /broadcast T1; 2: /broadcast T2; 3: /broadcast T3; 4: /broadcast T4",
			"1 2 3 4 has welcome; 2 3 4 has T1; 1 3 4 has T2; 1 2 4 has T3; 1 2 3 has T4"},
		{"20_group_create_four", 1.5, four + "1: /create_group CS425; 1: /create_group CS426; 1: /create_group CS427; 1: /create_group CS428",
			"1 has welcome; 1 has CS425; 1 has CS426; 1 has CS427; 1 has CS428"},
		{"21_group_create_by_three", 1.5, four + "1: /create_group CS425; 1: /create_group CS426; 2: /create_group CS427; " +
			"2: /create_group CS428; 3: /create_group CS429; 3: /create_group CS430",
			"1 has welcome; 1 has CS425; 1 has CS426; 2 has CS427; 2 has CS428; 3 has CS429; 3 has CS430"},
		{"22_group_join_four", 1.5, four + "2: /create_group CS427; 2: /create_group CS428; 3: /create_group CS429; 3: /create_group CS430; " +
			"wait 2 CS428; wait 3 CS430; " + strings.ReplaceAll(join4, "5:", "1:"),
			"1 has welcome; 1 has CS427; 1 has CS428; 1 has CS429; 1 has CS430"},
		{"23_group_join_by_four", 1.5, oneGroup + "2 3 4 5 in; 2 3 4 5: /join_group CS427", all5 + "2 3 4 5 has CS427"},
		{"24_group_msg_by_stranger", 1.5, oneGroup + "2 3 4 5 in; 2: /group_msg CS427 T1; 2: /group_msg CS427 T2; " +
			"2: /group_msg CS427 T3; 2: /group_msg CS427 T4", all5 + "1 has CS427; 1 lacks T1; 1 lacks T2; 1 lacks T3; 1 lacks T4"},
		{"25_group_msg_by_member", 1.5, oneGroup + "2 3 4 5 in; 2: /join_group CS427; 2: /group_msg CS427 T1; 2: /group_msg CS427 T2; " +
			"2: /group_msg CS427 T3; 2: /group_msg CS427 T4", all5 + "1 has CS427; 1 has T1; 1 has T2; 1 has T3; 1 has T4"},
		{"26_group_msg_to_four", 1.5, oneGroup + "2 in; 2: /create_group CS428; wait 2 CS428; 3 in; 3: /create_group CS429; " +
			"4 in; 4: /create_group CS430; 5 in; " + join4 +
			"5: /group_msg CS427 T1; 5: /group_msg CS428 T2; 5: /group_msg CS429 T3; 5: /group_msg CS430 T4",
			all5 + "1 has CS427; 2 has CS428; 3 has CS429; 4 has CS430; 1 has T1; 2 has T2; 3 has T3; 4 has T4"},
		{"27_group_msg_by_four", 1.5, fourGroups + "2 3 4 5: /join_group CS427; " +
			"2: /group_msg CS427 T1; 3: /group_msg CS427 T2; 4: /group_msg CS427 T3; 5: /group_msg CS427 T4",
			all5 + "1 has CS427; 1 has T1; 1 has T2; 1 has T3; 1 has T4"},
		{"28_group_leave_two_of_four", 1.5, fourGroups + join4 + "5: /leave_group CS427; 5: /leave_group CS428",
			all5 + "1 has CS427; 5 has 2 lines with left"},
		{"29_group_leave_by_four", 1.5, fourGroups + "2 3 4 5: /join_group CS427; 2 3 4 5: /leave_group CS427",
			all5 + "1 has CS427; 2 3 4 5 has left"},
		{"30_group_leave_two_groups", 1.5, fourGroups + "2 3: /join_group CS427; 4 5: /join_group CS428; " +
			"2 3: /leave_group CS427; 4 5: /leave_group CS428", all5 + "1 has CS427; 2 3 4 5 has left"},
		{"31_mixed_msg_and_broadcast", 2.5, "1 in; 1: /create_group CS427; 2 in; 2: /create_group CS428; 3 in; 3: /create_group CS429; " +
			"4 in; 4: /create_group CS430; 1: /msg u2 T1; 1: /msg u3 T2; 1: /msg u4 T3; 2: /broadcast T4",
			"1 2 3 4 has welcome; 2 has T1; 3 has T2; 4 has T3; 1 3 4 has T4"},
		{"32_mixed_msg_then_group", 2.5, four + "1: /msg u2 T1; 1: /msg u3 T2; 1: /msg u4 T3; 1: /create_group CS425; " + joinCS425 +
			"2: /group_msg CS425 T4; 2: /leave_group CS425",
			"1 2 3 4 has welcome; 1 has CS425; 2 has T1; 3 has T2; 4 has T3; 2 3 4 has join; 1 3 4 has T4; 2 has left"},
		{"33_mixed_broadcast_then_group", 2.5, four + "1: /broadcast T1; 1: /create_group CS425; " + joinCS425 +
			"2: /group_msg CS425 T2; 2: /leave_group CS425",
			"1 2 3 4 has welcome; 1 has CS425; 2 3 4 has T1; 2 3 4 has join; 1 3 4 has T2; 2 has left"},
		{"34_mixed_group_with_msg", 2.5, four + "1: /create_group CS425; 2 3 4: /join_group CS425; wait 4 join; " +
			"1: /msg u2 T1; 1: /msg u3 T2; 1: /msg u4 T3; 2: /group_msg CS425 T4; 2: /leave_group CS425",
			"1 2 3 4 has welcome; 1 has CS425; 2 has T1; 3 has T2; 4 has T3; 2 3 4 has join; 1 3 4 has T4; 2 has left"},
		{"35_mixed_broadcast_with_wrong_join", 2.5, four + "1: /create_group CS425; wait 1 CS425; 2: /broadcast T1; 3: /join_group CS888; " +
			"2: /broadcast T2; 3: /join_group CS425; 2: /broadcast T3",
			"1 2 3 4 has welcome; 1 has CS425; 1 3 4 has T1; 1 3 4 has T2; 1 3 4 has T3; 3 has join; 3 has REFUSAL"},
		thousandGroups(),
		fiftyLeave(),
	}
}

// thousandGroups returns the case in which two users create 1,000 groups each, and join each other's.
func thousandGroups() gradedCase {
	steps, checks := four+"hurry", "1 2 has welcome; 1 2 lacks REFUSAL"
	for _, i := range rand.New(rand.NewSource(1)).Perm(2000) { // in any order, but in the same for all
		steps += fmt.Sprintf("; %d: /create_group CS_u%d_%d", 1+i%2, 1+i%2, i/2)
	}
	for k := range 1000 {
		checks += fmt.Sprintf("; 1 has CS_u2_%d; 2 has CS_u1_%d", k, k)
	}
	steps += "; wait 1 CS_u1_999; wait 2 CS_u2_999"
	for k := range 1000 {
		steps += fmt.Sprintf("; 1: /join_group CS_u2_%d; 2: /join_group CS_u1_%d", k, k)
	}
	return gradedCase{"36_stress_1000_groups_each", 4.5, steps, checks}
}

// fiftyLeave returns the case in which 50 users leave while 50 others log in.
func fiftyLeave() gradedCase {
	steps, checks := "1 in", "52 has T52"
	for i := 2; i <= 100; i++ {
		if i <= 50 {
			steps += fmt.Sprintf("; %d in", i)
		} else {
			steps += fmt.Sprintf("; %d opens; %d: u%d", i, i, i)
		}
	}
	steps += "; hurry"
	for _, i := range rand.New(rand.NewSource(1)).Perm(100) {
		if i < 50 {
			steps += fmt.Sprintf("; %d: /exit", 1+i)
		} else {
			steps += fmt.Sprintf("; %d: p%d", 1+i, 1+i)
		}
	}
	for i := 51; i <= 100; i++ {
		steps += fmt.Sprintf("; wait %d welcome", i)
	}
	for i := 52; i <= 100; i++ {
		steps += fmt.Sprintf("; %d: /msg u%d T%d", i-1, i, i)
		checks += fmt.Sprintf("; %d has T%d", i, i)
	}
	return gradedCase{"37_stress_50_leave_50_come", 4.5, steps, checks}
}

// A play is one case while it is played. The mutex guards what follows it, and the output of the terminals.
type play struct {
	addr      string
	users     [][2]string // name and password of user 1, 2, ...
	suffix    string      // of group names, if the server knows groups of earlier cases
	leisure   bool
	started   func() bool // whether it still makes sense to wait for the server to accept a client
	terminals map[string]*terminal

	mu   sync.Mutex
	last time.Time     // when something was sent or came
	news chan struct{} // has a token when something was sent or came
}

// A terminal is a client that behaves as the course's does. What is typed waits in a queue.
type terminal struct {
	*play
	conn   *net.TCPConn
	typed  chan string
	unsent int    // lines that wait in the queue; guarded by mu, as all below
	output string // what the terminal shows
	closed bool
}

// note tells the driver that something was sent or came.
func (p *play) note(change func()) {
	p.mu.Lock()
	change()
	p.last = time.Now()
	p.mu.Unlock()
	select {
	case p.news <- struct{}{}:
	default:
	}
}

// waitFor waits until ok, for which it holds the mutex. It gives up after the limit, and sooner if nothing is
// sent and nothing comes.
func (p *play) waitFor(limit time.Duration, quiet time.Duration, ok func() bool) bool {
	late := time.Now().Add(limit)
	for {
		p.mu.Lock()
		done, until := ok(), p.last.Add(quiet)
		p.mu.Unlock()
		if late.Before(until) {
			until = late
		}
		if done || time.Now().After(until) {
			return done
		}
		select {
		case <-p.news:
			time.Sleep(time.Millisecond) // much may come at once: look at it from time to time
		case <-time.After(time.Until(until)):
		}
	}
}

// open starts the client of a terminal.
func (p *play) open(name string) error {
	t := &terminal{play: p, typed: make(chan string, 3000)}
	for late := time.Now().Add(startTime); ; time.Sleep(5 * time.Millisecond) {
		conn, err := net.DialTimeout("tcp", p.addr, startTime)
		if err == nil {
			t.conn = conn.(*net.TCPConn)
			break
		}
		if len(p.terminals) > 0 || time.Now().After(late) || !p.started() {
			return fmt.Errorf("terminal %s cannot connect: %v", name, err)
		}
	}
	t.conn.SetNoDelay(false) // as the course's client: with Nagle's algorithm, lines may go out glued together
	p.note(func() { p.terminals[name] = t; t.output = connected })
	go t.run() // ends with the connection
	return nil
}

// connected is what the course's client prints first.
const connected = "Connected to the server.\n"

// receive shows what one read brings, and reports whether the connection goes on.
func (t *terminal) receive() bool {
	piece := make([]byte, 1024)
	n, err := t.conn.Read(piece)
	t.note(func() {
		if n > 0 {
			t.output += strings.ToLower(string(piece[:n])) + "\n"
		}
		t.closed = t.closed || err != nil
	})
	return err == nil
}

// run is the course's client: two prompts and a verdict of one read each, and then two loops. Only /exit
// closes the connection here. All others are reset at the end of the case.
func (t *terminal) run() {
	for range 2 {
		if !t.receive() || !t.sendNext() {
			return
		}
	}
	if !t.receive() || strings.Contains(t.shown(), "authentication failed") {
		t.note(func() { t.closed = true })
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

// sendNext sends the next line that was typed, and reports whether the client goes on.
func (t *terminal) sendNext() bool {
	line := <-t.typed
	if line == "/exit" {
		t.cork()
	}
	_, err := io.WriteString(t.conn, line)
	t.note(func() {
		t.unsent--
		t.closed = t.closed || err != nil || line == "/exit"
	})
	return err == nil && line != "/exit" && line != ""
}

// cork makes the last line and the end of the connection go out together. Otherwise a quick server may
// close the connection first, and its port is blocked for a minute.
func (t *terminal) cork() {
	if raw, err := t.conn.SyscallConn(); err == nil && runtime.GOOS == "linux" {
		raw.Control(func(fd uintptr) { syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, 3, 1) }) // TCP_CORK
	}
}

// shown returns what the terminal shows.
func (t *terminal) shown() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.output
}

// typeLine types a line into a terminal and, at leisure, waits for an answer.
func (t *terminal) typeLine(line string) {
	before := len(t.shown())
	t.note(func() { t.unsent++ })
	t.typed <- line
	if t.leisure {
		t.waitFor(time.Second, time.Second, func() bool { return t.closed || len(t.output) > before })
	}
}

var (
	terminalNames = regexp.MustCompile(`^(\d+ )*\d+[: ]`)

	userWord  = regexp.MustCompile(`\b([up])(\d+)\b`)
	textWord  = regexp.MustCompile(`\bT(\d+)\b`)
	groupWord = regexp.MustCompile(`\b(CS\w+|IITK)\b`)
)

// words puts names, passwords, texts and groups in the place of u1, p1, T1 and CS425.
func (p *play) words(line string) string {
	line = userWord.ReplaceAllStringFunc(line, func(word string) string {
		i, _ := strconv.Atoi(word[1:])
		return p.users[(i-1)%len(p.users)][strings.Index("up", word[:1])]
	})
	line = textWord.ReplaceAllString(line, "my message, number $1: it costs £$1,00 (or more)!")
	return groupWord.ReplaceAllString(line, "${1}"+p.suffix)
}

// run plays the steps of a case and returns what was missing in the end, or an empty string.
func (p *play) run(c gradedCase) (problem string) {
	p.terminals, p.news, p.last = map[string]*terminal{}, make(chan struct{}, 1), time.Now()
	defer func() {
		for _, t := range p.terminals {
			t.conn.SetLinger(0) // a reset, so that no connection of the server's waits in TIME_WAIT
			t.conn.Close()
			t.typed <- "" // ends its client
		}
	}()
	pause, before, late := stepPause, "", time.Now().Add(caseTime)
	for _, step := range expand(c.steps) {
		if time.Now().After(late) {
			return "the case took more than " + caseTime.String()
		}
		who, what, _ := strings.Cut(step, " ")
		// What is done in another terminal comes after what was typed before was sent, and a second login of a
		// user after the end of the first.
		terminal := strings.TrimSuffix(who, ":")
		if previous := p.terminals[before]; previous != nil && terminal != before && pause == stepPause {
			p.waitFor(time.Second, time.Second, func() bool { return previous.unsent == 0 || previous.closed })
		}
		if user := p.terminals[strings.TrimPrefix(what, "in as ")]; user != nil {
			p.waitFor(time.Second, time.Second, func() bool { return user.closed })
		}
		if who != "wait" {
			before = terminal
		}
		if p.leisure && pause == stepPause {
			p.waitFor(time.Second, 50*time.Millisecond, func() bool { return false }) // all is quiet
		} else {
			time.Sleep(pause) // not to wait for anything: this is the speed of the course's driver
		}
		switch {
		case who == "hurry":
			pause = shortPause
		case who == "wait":
			name, word, _ := strings.Cut(what, " ")
			word = p.words(word)
			p.waitFor(2*time.Second, silence, func() bool { return p.has(name, word) })
		case strings.HasSuffix(who, ":"):
			if t := p.terminals[strings.TrimSuffix(who, ":")]; t != nil {
				t.typeLine(p.words(what))
			}
		default: // "in", "in as 2", "in wrong", "opens"
			if err := p.open(who); err != nil {
				return err.Error()
			}
			number, password := strings.TrimPrefix(what, "in as "), ""
			switch what {
			case "in":
				number = who
			case "opens":
				continue
			case "in wrong":
				number, password = who, "wrong "
			}
			p.terminals[who].typeLine(p.words("u" + number))
			p.terminals[who].typeLine(p.words(password + "p" + number))
		}
	}
	return p.judge(expand(c.checks))
}

// expand makes "2 in; 3 in" of "2 3 in".
func expand(text string) (steps []string) {
	for _, step := range strings.Split(strings.TrimSuffix(text, "; "), "; ") {
		names := terminalNames.FindString(step)
		for _, name := range strings.Fields(strings.TrimSuffix(names, ":")) {
			steps = append(steps, name+step[len(strings.TrimRight(names, ": ")):])
		}
		if names == "" {
			steps = append(steps, step) // it begins with a word
		}
	}
	return steps
}

// has reports whether a terminal shows a word. The caller holds the mutex.
func (p *play) has(name, word string) bool {
	t := p.terminals[name]
	if t == nil {
		return false
	}
	if word == "REFUSAL" {
		return refusalWord(t.output)
	}
	number, word2, lines := strings.Cut(word, " lines with ")
	if lines {
		count := 0
		for _, line := range strings.Split(t.output, "\n") {
			if strings.Contains(line, word2) {
				count++
			}
		}
		return fmt.Sprint(count) == number
	}
	return strings.Contains(t.output, strings.ToLower(word))
}

// judge waits until all that should come is there, and a little longer for what should not come. It returns
// the first check that fails.
func (p *play) judge(checks []string) (problem string) {
	limit := 10 * time.Second
	if len(checks) > 40 {
		limit = time.Minute // the course waited longer in the stress cases, too
	}
	for i := range checks {
		checks[i] = p.words(checks[i])
	}
	holds := func(check string) bool {
		if name, word, has := strings.Cut(check, " has "); has {
			return p.has(name, word)
		}
		name, word, _ := strings.Cut(check, " lacks ")
		return !p.has(name, word)
	}
	open := checks
	p.waitFor(limit, silence, func() bool {
		open = slices.DeleteFunc(slices.Clone(open), holds)
		return len(open) == 0
	})
	if len(open) == 0 && strings.Contains(strings.Join(checks, ""), " l") { // "lacks" or "lines"
		p.waitFor(limit, hush, func() bool { return false })
		p.mu.Lock()
		open = slices.DeleteFunc(slices.Clone(checks), holds)
		p.mu.Unlock()
	}
	if len(open) == 0 {
		return ""
	}
	came := "nothing"
	name, _, _ := strings.Cut(open[0], " ")
	if t := p.terminals[name]; t != nil {
		came = t.shown()
	}
	return fmt.Sprintf("terminal %s: not so. Terminal %s shows:\n%s", open[0], name, indent(came))
}

// indent returns the last lines of a text, indented.
func indent(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	if len(lines) > 20 {
		lines = append([]string{"..."}, lines[len(lines)-20:]...)
	}
	return "        " + strings.Join(lines, "\n        ")
}

// A submission is a server to grade and what came of it.
type submission struct {
	dir     string
	users   [][2]string
	marks   float64
	leisure float64 // the sum if the cases that pass at leisure count, too
	of      float64 // the marks of all cases that were played
	outcome string  // "ok", "no start", "crashed", "silent", "port", or why it was not graded
	report  string
	mute    int // cases in which no client was sent anything
}

// A process is a started server, with the last of what it printed.
type process struct {
	cmd   *exec.Cmd
	ended chan struct{}
	mu    sync.Mutex
	tail  []byte
}

// Write keeps the end of what the server prints, however much it is.
func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tail = append(p.tail, b[max(0, len(b)-4000):]...)
	p.tail = p.tail[max(0, len(p.tail)-4000):]
	return len(b), nil
}

// mark is in the environment of all processes that the grader starts, and so in that of their children.
var mark = fmt.Sprintf("CHAT_GRADER=%d", os.Getpid())

// killMarked kills all processes that have the mark, those included that have left the group. It
// needs /proc; elsewhere, killing the group has to do.
func killMarked(mark string) (found bool) {
	files, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, file := range files {
		environment, _ := os.ReadFile(file)
		if slices.Contains(strings.Split(string(environment), "\x00"), mark) {
			pid, _ := strconv.Atoi(strings.Split(file, "/")[2])
			syscall.Kill(pid, syscall.SIGKILL)
			found = true
		}
	}
	return found
}

// startServer starts the server of a submission.
func startServer(dir string) (*process, error) {
	p := &process{cmd: exec.Command("sh", "-c", *gradeExec), ended: make(chan struct{})}
	p.cmd.Dir = dir
	p.cmd.Env = append(os.Environ(), mark)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p.cmd.Stdout, p.cmd.Stderr = p, p
	p.cmd.WaitDelay = time.Second // a child that lives on may keep the pipe open
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { p.cmd.Wait(); close(p.ended) }()
	return p, nil
}

// hasEnded reports whether the command has ended by itself.
func (p *process) hasEnded() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// kill kills the server and all that it has started.
func (p *process) kill() {
	syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	for killMarked(mark) {
		time.Sleep(time.Millisecond) // killed processes are there until somebody has asked for their exit status
	}
	<-p.ended
}

// printed returns the last lines that the server printed.
func (p *process) printed() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return indent(string(p.tail))
}

// portFree reports whether a server could listen at an address, even one that does not set SO_REUSEADDR.
// If somebody else listens there, holder says who, where the system tells.
func portFree(address string) (free bool, holder string) {
	_, port, _ := net.SplitHostPort(address)
	strict := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) {
			syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 0)
		})
	}}
	listener, err := strict.Listen(context.Background(), "tcp", ":"+port)
	if err == nil {
		listener.Close()
		return true, ""
	}
	listener, err = net.Listen("tcp", ":"+port) // sets SO_REUSEADDR: old connections do not matter
	if err == nil {
		listener.Close()
		return false, ""
	}
	process, _ := exec.Command("ss", "-Hltnp", "sport = :"+port).Output()
	return false, "somebody else (" + strings.Join(strings.Fields(string(process)), " ") + ")"
}

// playOnce plays a case with a fresh server, if there is -exec, and returns what was missing.
func (s *submission) playOnce(c gradedCase, p *play) (problem string) {
	p.users, p.started = s.users, func() bool { return true }
	if *gradeExec == "" {
		time.Sleep(hush) // not to wait for anything: the server may need a moment to notice that clients are gone
		return p.run(c)
	}
	free, holder := portFree(p.addr)
	for late := time.Now().Add(portTime); !free && holder == "" && time.Now().Before(late); free, holder = portFree(p.addr) {
		time.Sleep(100 * time.Millisecond)
	}
	if !free {
		s.outcome = "port"
		return "the port of " + p.addr + " is not free: " + holder
	}
	server, err := startServer(s.dir)
	if err != nil {
		s.outcome = "no start"
		return err.Error()
	}
	ended := time.Time{} // when the command was first seen to have ended
	p.started = func() bool {
		if server.hasEnded() && ended.IsZero() {
			ended = time.Now()
		}
		return ended.IsZero() || time.Since(ended) < time.Second/2 // it may have left a server in the background
	}
	problem = p.run(c)
	how := "was running"
	if server.hasEnded() {
		how = "had ended: " + server.cmd.ProcessState.String()
	}
	alive := !server.hasEnded() || server.cmd.ProcessState.Success()
	server.kill()
	if problem != "" {
		problem += "\n    The server " + how + ". It printed last:\n" + server.printed()
	}
	switch {
	case len(p.terminals) == 0 && s.of == 0:
		s.outcome = "no start"
	case !alive:
		s.outcome = "crashed"
	}
	return problem
}

// grade plays all cases for a submission, and writes its report.
func (s *submission) grade(t *testing.T, alone bool) {
	s.outcome = "ok"
	var table, details string
	for i, c := range assignment() {
		t.Run(c.name, func(t *testing.T) {
			result, problem := s.playTwice(c, i)
			s.of += c.marks
			if result == "pass" {
				s.marks += c.marks
			}
			if result != "FAIL" {
				s.leisure += c.marks
			}
			table += fmt.Sprintf("%-40s %4.1f  %s\n", c.name, c.marks, result)
			if problem != "" {
				details += fmt.Sprintf("\n%s, %g marks: %s\n    The steps: %.1000s\n    %s\n", c.name, c.marks, result, c.steps, problem)
			}
			if problem != "" && alone {
				t.Errorf("%g marks: %s. The steps: %.1000s\n    %s", c.marks, result, c.steps, problem)
			}
		})
	}
	s.report = fmt.Sprintf("%-40s marks\n%s%-40s %4.1f  of %g\n%-40s %4.1f\n", "case", table, "sum", s.marks, s.of, "sum at leisure", s.leisure)
	if alone {
		fmt.Print("\n" + s.report)
	}
	s.report += details
}

// playTwice plays a case at the course's pace and, if it fails, once more at leisure. The problem is that of
// the first time.
func (s *submission) playTwice(c gradedCase, number int) (result, problem string) {
	if s.outcome == "no start" || s.outcome == "port" || s.outcome == "silent" {
		return "FAIL", "not played: " + s.outcome
	}
	p := &play{addr: *gradeAddr}
	if *gradeExec == "" { // the server is not started afresh: take other groups and users each time
		p.suffix = fmt.Sprintf("_%d_%d", os.Getpid(), number)
		s.users = append(s.users[10:len(s.users):len(s.users)], s.users[:10]...)
	}
	problem = s.playOnce(c, p)
	if problem == "" {
		s.mute = 0
		return "pass", ""
	}
	if !p.heardAnything() {
		if s.mute++; s.mute == 3 && s.outcome == "ok" {
			s.outcome = "silent"
		}
		return "FAIL", problem
	}
	s.mute = 0
	again := &play{addr: p.addr, leisure: true}
	if p.suffix != "" {
		again.suffix = p.suffix + "_again"
	}
	if s.playOnce(c, again) == "" {
		return "FAIL in a hurry", problem
	}
	return "FAIL", problem
}

// heardAnything reports whether the server has said anything to any client.
func (p *play) heardAnything() bool {
	for _, t := range p.terminals {
		if t.shown() != connected {
			return true
		}
	}
	return false
}

// readUsers returns the names and passwords in a users file.
func readUsers(path string) (users [][2]string, err error) {
	text, err := os.ReadFile(path)
	for _, line := range strings.Split(string(text), "\n") {
		if name, password, ok := strings.Cut(strings.TrimSuffix(line, "\r"), ":"); ok && name != "" && password != "" {
			users = append(users, [2]string{name, password})
		}
	}
	if err == nil && len(users) < 100 {
		err = fmt.Errorf("%s has %d users, and the cases need 100: name a larger file with -users", path, len(users))
	}
	return users, err
}

// kept is the name under which a submission's own users file waits to be put back.
const kept = "users.txt.before-grading"

// lendUsers copies the file of -users over the users file of a folder. giveBack undoes it.
func lendUsers(dir string) error {
	text, err := os.ReadFile(*gradeUsers)
	if err != nil {
		return err
	}
	path := filepath.Join(dir, "users.txt")
	if _, err := os.Stat(path); err != nil {
		os.WriteFile(path, nil, 0o644) // there was none; an empty one is put back
	}
	if err := os.Rename(path, filepath.Join(dir, kept)); err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o644)
}

// giveBack puts a folder's own users file back, if it was lent another.
func giveBack(dir string) {
	own := filepath.Join(dir, kept)
	if info, err := os.Stat(own); err == nil && info.Size() == 0 {
		os.Remove(filepath.Join(dir, "users.txt"))
		os.Remove(own)
	} else if err == nil {
		os.Rename(own, filepath.Join(dir, "users.txt"))
	}
}

// startKeeper starts this program once more, as a process that waits for the grader's end, whatever
// ends it: Ctrl-C, a panic, a timeout. Then it kills what is left and puts the users files back.
func startKeeper(t *testing.T, dirs []string) {
	cmd := exec.Command(os.Args[0], dirs...)
	cmd.Env = append(os.Environ(), "CHAT_KEEPER="+mark)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // so that Ctrl-C does not end it
	life, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { life.Close(); cmd.Wait() })
}

// keep is what the keeper does. TestMain calls it.
func keep(mark string, dirs []string) {
	io.Copy(io.Discard, os.Stdin) // ends with the grader
	for killMarked(mark) {
		time.Sleep(time.Millisecond)
	}
	for _, dir := range dirs {
		giveBack(dir)
	}
}

// TestAssignment grades this server or, with flags, one or many others.
func TestAssignment(t *testing.T) {
	switch {
	case *gradeExec == "" && *gradeAddr == "":
		if *gradeDir+*gradeUsers+*gradeReport != "" {
			t.Fatal("-dir, -users and -report need -exec, the command that starts the server, or -addr")
		}
		gradeOurs(t)
		return
	case *gradeExec == "" && *gradeDir != "":
		t.Fatal("-dir needs -exec, the command that starts the server")
	case *gradeExec == "" && *gradeUsers == "":
		t.Fatal("-addr needs -users, the file of users that the server uses")
	}
	if *gradeAddr == "" {
		*gradeAddr = "127.0.0.1:12345"
	}
	if _, _, err := net.SplitHostPort(*gradeAddr); err != nil {
		t.Fatalf("-addr: %v", err)
	}
	if *gradeDir == "" {
		*gradeDir = "."
	}
	matches, err := filepath.Glob(*gradeDir)
	dirs := slices.DeleteFunc(matches, func(path string) bool {
		info, err := os.Stat(path)
		return err != nil || !info.IsDir()
	})
	if err != nil || len(dirs) == 0 {
		t.Fatalf("-dir %s: no such folder", *gradeDir)
	}
	if *gradeUsers != "" {
		if _, err := readUsers(*gradeUsers); err != nil {
			t.Fatal(err)
		}
	}
	if *gradeReport != "" {
		if err := os.MkdirAll(*gradeReport, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if *gradeExec != "" {
		startKeeper(t, dirs)
		if free, holder := portFree(*gradeAddr); !free && holder != "" {
			t.Fatalf("the port of %s is taken by %s, so no marks are given", *gradeAddr, holder)
		}
	}
	table := "folder,marks,at leisure,seconds,outcome\n"
	for _, dir := range dirs {
		began := time.Now()
		s := gradeFolder(t, dir, len(dirs) == 1)
		seconds := time.Since(began).Seconds()
		if *gradeExec == "" {
			dir = *gradeAddr
		}
		if s.outcome == "port" && len(dirs) > 1 {
			fmt.Println("another program took the port: stopped")
		}
		fmt.Printf("%-40s %4.1f of %g, at leisure %4.1f, %4.0f s, %s\n", dir, s.marks, s.of, s.leisure, seconds, s.outcome)
		table += fmt.Sprintf("%q,%.1f,%.1f,%.0f,%s\n", dir, s.marks, s.leisure, seconds, s.outcome)
		if *gradeReport != "" {
			name := strings.NewReplacer("/", "_", "\\", "_").Replace(dir) + ".txt"
			os.WriteFile(filepath.Join(*gradeReport, name), []byte(s.report), 0o644)
			os.WriteFile(filepath.Join(*gradeReport, "grades.csv"), []byte(table), 0o644) // after each: a run may be cut short
		}
	}
}

// gradeFolder grades the submission in a folder. Alone, it says more.
func gradeFolder(t *testing.T, dir string, alone bool) *submission {
	s := &submission{dir: dir}
	users := filepath.Join(dir, "users.txt")
	var err error
	if *gradeUsers != "" {
		users = *gradeUsers
		if *gradeExec != "" {
			err = lendUsers(dir)
			defer giveBack(dir)
		}
	}
	if err == nil {
		s.users, err = readUsers(users)
	}
	if err != nil && alone {
		t.Fatal(err)
	}
	if err != nil {
		s.outcome = err.Error()
		return s
	}
	s.grade(t, alone)
	return s
}

// gradeOurs grades the server of this package. Each case has a server of its own, so they are played side by side.
func gradeOurs(t *testing.T) {
	var accounts [][2]string
	for i := range 100 {
		accounts = append(accounts, [2]string{fmt.Sprint("u", i), fmt.Sprint("p", i)})
	}
	for _, c := range assignment() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := &play{addr: start(t).addr, users: accounts, started: func() bool { return true }}
			if problem := p.run(c); problem != "" {
				t.Errorf("%g marks. The steps: %.1000s\n    %s", c.marks, c.steps, problem)
			}
		})
	}
}

// ---- Benchmarks ----
//
// They measure the server over loopback, with its clients in the same process, and beside it the floor:
// a loop that does nothing but write the same lines to as many connections. See TESTING.md.

// A sink reads a connection and counts off the lines that come. When all have come that the benchmark is
// about, the count is set high, because then come the notices of the end.
func sink(conn net.Conn, lines *sync.WaitGroup) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := conn.Read(buffer)
		lines.Add(-bytes.Count(buffer[:n], []byte{'\n'}))
		if err != nil {
			return
		}
	}
}

// quietly logs n users in without waiting for the notices of others, and returns their connections.
func (c *talk) quietly(n int) (peers []*peer) {
	c.Helper()
	for i := 0; i < n; i++ {
		p := c.login(fmt.Sprint("u", i))
		for _, other := range peers {
			other.hear(p.name + " has joined the chat.")
		}
		peers = append(peers, p)
	}
	return peers
}

// benchLine is what is said, and heardLine what others hear of it.
const (
	benchLine = "the quick brown fox jumps over the lazy dog, and the dog does not care\n"
	heardLine = "[u0][Broadcast]: " + benchLine
)

// delivering runs what delivers so many lines and reports what one of them costs, to the server and its
// clients together.
func delivering(b *testing.B, lines int, run func()) {
	var before, after runtime.MemStats
	var was, is syscall.Rusage
	runtime.ReadMemStats(&before)
	syscall.Getrusage(syscall.RUSAGE_SELF, &was)
	b.ResetTimer()
	run()
	b.StopTimer()
	syscall.Getrusage(syscall.RUSAGE_SELF, &is)
	runtime.ReadMemStats(&after)
	cpu := is.Utime.Nano() + is.Stime.Nano() - was.Utime.Nano() - was.Stime.Nano()
	n := float64(lines)
	b.ReportMetric(n/b.Elapsed().Seconds(), "deliveries/s")
	b.ReportMetric(float64(cpu)/n, "cpu-ns/delivery")
	b.ReportMetric(float64(after.Mallocs-before.Mallocs)/n, "allocs/delivery")
	b.ReportMetric(float64(after.TotalAlloc-before.TotalAlloc)/n, "B/delivery")
}

// BenchmarkFanOut: senders broadcast to each other and to readers. An operation is a line said once.
func BenchmarkFanOut(b *testing.B) {
	for _, bm := range []struct {
		name             string
		senders, readers int
		closed           bool // one line in flight
	}{
		{"closed loop, 35 readers", 1, 35, true},
		{"closed loop, 100 readers", 1, 100, true},
		{"pipelined, 35 readers", 1, 35, false},
		{"pipelined, 100 readers", 1, 100, false},
		{"pipelined, 100 readers, 8 senders", 8, 100, false},
		{"pipelined, 35 to each other", 35, 0, false},
	} {
		b.Run(bm.name, func(b *testing.B) {
			c := &talk{TB: b, r: start(b)}
			peers := c.quietly(bm.senders + bm.readers)
			var lines sync.WaitGroup
			for _, p := range peers {
				p.conn.SetReadDeadline(time.Time{})
				go sink(p.conn, &lines)
			}
			said := "/broadcast " + benchLine
			delivering(b, b.N*len(peers), func() { // all but the sender hear it, and the sender an answer
				for i := 0; bm.closed && i < b.N; i++ {
					lines.Add(len(peers))
					io.WriteString(peers[0].conn, said)
					lines.Wait()
				}
				if !bm.closed {
					lines.Add(b.N * len(peers))
					for s := 0; s < bm.senders; s++ {
						go func() {
							out := bufio.NewWriter(peers[s].conn)
							for i := s; i < b.N; i += bm.senders {
								out.WriteString(said)
							}
							out.Flush()
						}()
					}
					lines.Wait()
				}
			})
			lines.Add(1 << 20)
		})
	}
	for _, readers := range []int{35, 100} {
		for _, batch := range []int{1, 256} {
			b.Run(fmt.Sprintf("floor, %d readers, %d lines a write", readers, batch), func(b *testing.B) {
				var lines sync.WaitGroup
				conns := pairs(b, readers)
				for _, pair := range conns {
					go sink(pair[0], &lines)
				}
				block := bytes.Repeat([]byte(heardLine), batch)
				writes := (b.N + batch - 1) / batch
				delivering(b, writes*batch*readers, func() {
					for i := 0; i < writes; i++ {
						lines.Add(batch * readers)
						for _, pair := range conns {
							pair[1].Write(block)
						}
						if batch == 1 {
							lines.Wait() // one line in flight
						}
					}
					lines.Wait()
				})
			})
		}
		b.Run(fmt.Sprintf("floor, %d readers, through queues", readers), func(b *testing.B) {
			var lines sync.WaitGroup
			var queues []chan string
			for _, pair := range pairs(b, readers) {
				queue := make(chan string, queueLength)
				queues = append(queues, queue)
				go sink(pair[0], &lines)
				go func() {
					var batch []byte
					for line := range queue {
						batch = append(batch, line...)
						if len(queue) == 0 || len(batch) >= maxWrite {
							pair[1].Write(batch)
							batch = batch[:0]
						}
					}
				}()
			}
			line := heardLine
			delivering(b, b.N*readers, func() {
				lines.Add(b.N * readers)
				for i := 0; i < b.N; i++ {
					for _, queue := range queues {
						queue <- line
					}
				}
				lines.Wait()
			})
			for _, queue := range queues {
				close(queue)
			}
		})
	}
}

// pairs returns connected pairs of sockets.
func pairs(b testing.TB, n int) (list [][2]net.Conn) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer listener.Close()
	for i := 0; i < n; i++ {
		near, err := net.Dial("tcp", listener.Addr().String())
		if err != nil {
			b.Fatal(err)
		}
		far, err := listener.Accept()
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { near.Close(); far.Close() })
		list = append(list, [2]net.Conn{near, far})
	}
	return list
}

// BenchmarkPrivate: pairs of users, of whom one writes to the other and waits for the line to arrive. An
// operation is one such trip, of all pairs together. The floor sends the line straight on.
func BenchmarkPrivate(b *testing.B) {
	for _, n := range []int{1, 50} {
		measure := func(b *testing.B, trip func(pair int)) {
			var mu sync.Mutex
			var all []time.Duration
			var wg sync.WaitGroup
			b.ReportAllocs()
			b.ResetTimer()
			for pair := 0; pair < n; pair++ {
				wg.Add(1)
				go func() {
					defer wg.Done()
					var took []time.Duration
					for i := pair; i < b.N; i += n {
						said := time.Now()
						trip(pair)
						took = append(took, time.Since(said))
					}
					mu.Lock()
					all = append(all, took...)
					mu.Unlock()
				}()
			}
			wg.Wait()
			b.StopTimer()
			slices.Sort(all)
			b.ReportMetric(float64(all[len(all)/2].Microseconds()), "p50-µs")
			b.ReportMetric(float64(all[len(all)*99/100].Microseconds()), "p99-µs")
		}
		b.Run(fmt.Sprintf("%d pairs", n), func(b *testing.B) {
			c := &talk{TB: b, r: start(b)}
			peers := c.quietly(2 * n)
			for i, p := range peers {
				p.conn.SetReadDeadline(time.Time{})
				if i%2 == 0 {
					go io.Copy(io.Discard, p.conn)
				}
			}
			measure(b, func(pair int) {
				io.WriteString(peers[2*pair].conn, "/msg "+peers[2*pair+1].name+" "+benchLine)
				peers[2*pair+1].in.ReadSlice('\n')
			})
		})
		b.Run(fmt.Sprintf("floor, %d pairs", n), func(b *testing.B) {
			in, out := pairs(b, n), pairs(b, n)
			readers := make([]*bufio.Reader, n)
			for i := range in {
				go io.Copy(out[i][1], in[i][1])
				readers[i] = bufio.NewReader(out[i][0])
			}
			measure(b, func(pair int) {
				io.WriteString(in[pair][0], "[u0]: "+benchLine)
				readers[pair].ReadSlice('\n')
			})
		})
	}
}

// BenchmarkLogin: logins that are announced to nobody, because each client quits before the next comes.
func BenchmarkLogin(b *testing.B) {
	for _, n := range []int{1, 50} {
		b.Run(fmt.Sprintf("%d at a time", n), func(b *testing.B) {
			c := &talk{TB: b, r: start(b)}
			var wg sync.WaitGroup
			b.ReportAllocs()
			b.ResetTimer()
			for w := 0; w < n; w++ {
				wg.Add(1)
				go func() {
					defer wg.Done()
					for i := w; i < b.N; i += n {
						p := c.connect(fmt.Sprint("u", w))
						fmt.Fprintf(p.conn, "u%d\np%d\n/quit\n", w, w)
						io.Copy(io.Discard, p.conn)
						p.conn.Close()
					}
				}()
			}
			wg.Wait()
		})
	}
}

// BenchmarkIdle: the resident memory of a server of its own, for each client that is online and says
// nothing. An operation is a client that logs in and stays, so -benchtime 5000x tells of 5,000. All who
// are there are told of each, so the time of all grows with the square.
func BenchmarkIdle(b *testing.B) {
	var file strings.Builder
	for i := 0; i < b.N; i++ {
		fmt.Fprintf(&file, "u%d:p%d\n", i, i)
	}
	resident := func(pid int) (kilobytes float64) {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if _, rest, ok := strings.Cut(string(status), "VmRSS:"); ok {
			fmt.Sscan(rest, &kilobytes)
		} else {
			b.Skip("no /proc here: ", err)
		}
		return kilobytes
	}
	p := startProgram(b, file.String())
	before := resident(p.cmd.Process.Pid)
	var lines sync.WaitGroup
	for i := 0; i < b.N; i++ {
		lines.Add(1 + i) // the welcome, and the notice to all before
		peer := p.connect(fmt.Sprint("u", i))
		peer.conn.SetReadDeadline(time.Time{})
		fmt.Fprintf(peer.conn, "u%d\np%d\n", i, i)
		go sink(peer.conn, &lines)
		lines.Wait()
	}
	lines.Add(1 << 20)
	b.ReportMetric((resident(p.cmd.Process.Pid)-before)/float64(b.N), "KB/client")
}
