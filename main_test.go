// The tests talk to the server as its users do, over connections to 127.0.0.1. They know nothing of the code: put
// another main.go in place of this one, and they judge that.
//
//	go test .                                 all tests
//	go test -run TestConversations/group .    the conversations with "group" in their names
//	go test -run TestAssignment .             grade this server; for other servers, see TESTING.md
//
// Most tests are conversations. A conversation is a list of rows. Each row says what one client does:
//
//	alice in                      logs in; everybody else who is in hears it (no row is needed for that)
//	x opens                       connects, and does not log in
//	alice > /users                types a line
//	alice < Goodbye! | END        hears these lines next: first the goodbye, then the end; she closes her side, too
//	alice > /quit -> Goodbye!     types and hears; "->" may follow every verb
//	x >> /us                      sends these bytes, without a newline
//	alice has hello | bye|ciao    has heard, or hears before 10 s of silence, "hello" and also "bye" or "ciao"
//	alice lacks hello             has not heard it, and does not hear it before 250 ms of silence
//	x pauses 20ms                 does nothing for so long
//	x half-closes                 sends no more, but listens
//	x deaf                        reads no more, but stays
//	x listens 25ms                reads again, at most 4 KB every 25 ms
//	x floods /users\n             sends these bytes again and again, until its connection ends
//	x gone                        closes the connection
//	x resets                      breaks the connection
//
// A row may name several clients: "alice,bob in" or "1..50 in". They act one after the other. The number 7 stands for
// user u7 with the password p7; the other users are in usersFile. A row ends with its line, or at "; ". After ">", ">>",
// "<" and "->", \n and \x1b mean the same as in Go. (\x20 is a space, also at the end of a row. "\x3b " is a "; " that
// does not end the row.) A prompt ("Enter username:") counts as a line. After "has" and "lacks" stand regular
// expressions, in lower case, for all that was heard.
//
// With "<" and "->", a client must hear just these lines, in this order, and no others. If alice leaves, everybody needs
// a row for "alice has left the chat.". How can a test see that nothing else comes? At the end, everybody who has logged
// in by "in", and has not left, types "/msg <himself> fence". The fence must be the next line that he hears: whatever the
// server had sent to him before would come first.
//
// TestConversations is a table: kinds of clients, name, rows. Each conversation has a server of its own. Clients of the
// kind "lines" end what they type with a newline. Clients of the kind "raw" do not, like the course's: there, each ">" or
// ">>" is a whole message. A raw client must hear the answer before it types again, or TCP may join the two messages.
//
// To test a new command, add a conversation to TestConversations. Add the command to everyCommand, too.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// usersFile is the users.txt of the server under test, with a mark and line ends that some editors write.
var usersFile = "\ufeff\r\nalice:password123\r\nbob:qwerty456\r\ncharlie:secure789\r\ndavid:a:b c:\r\n" +
	numbered(1, 300, "u#:p#\r\n")

// everyCommand is typed by many clients at once in TestCrowd. With -race, this finds a command that uses shared data
// without the lock.
const everyCommand = `/msg u1 hi\n/broadcast hi\n/create_group a\n/join_group a\n/group_msg a hi\n/groups_users\n` +
	`/leave_group a\n/users\n/help\n/nothing\n\n`

// thousand is a text of 1,000 bytes.
var thousand = strings.Repeat("x", 1000)

// numbered repeats a text, with the numbers from first to last in place of "#", and the number after it for "#+1".
func numbered(first, last int, text string) string {
	var all strings.Builder
	for i := first; i <= last; i++ {
		all.WriteString(strings.NewReplacer("#+1", strconv.Itoa(i+1), "#", strconv.Itoa(i)).Replace(text))
	}
	return all.String()
}

// ---- Starting programs --------------------------------------------------------------------------

// brokenOff is done when the tests are broken off: by Ctrl-C, or because they take too long.
var brokenOff context.Context

// TestMain runs the tests, many at a time, because they mostly wait. Or it is the server: see launchServer.
func TestMain(m *testing.M) {
	if os.Getenv("CHAT_TEST_SERVER") != "" {
		main()
		os.Exit(0)
	}
	flag.Set("test.parallel", "32") // -parallel on the command line comes later and wins
	flag.Parse()
	brokenOff, _ = signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	limit := flag.Lookup("test.timeout").Value.(flag.Getter).Get().(time.Duration)
	if limit > 0 && !fuzzing() {
		time.AfterFunc(limit-2*time.Second, func() { syscall.Kill(os.Getpid(), syscall.SIGTERM) })
	}
	m.Run() // go test sees the result
}

// fuzzing reports whether go test looks for input that does harm (-fuzz). Then it has no time limit.
func fuzzing() bool { return flag.Lookup("test.fuzz").Value.String() != "" }

// A process is a program that a test has started.
type process struct {
	*exec.Cmd
	console string        // the file with what it prints
	ended   chan struct{} // closed when it has ended
}

// launch starts a program. At the end of the test it is killed, with its children. If the test has failed, the last
// lines of the program are shown.
func launch(t testing.TB, dir string, command ...string) *process {
	cmd := exec.CommandContext(brokenOff, command[0], command[1:]...)
	p := &process{Cmd: cmd, console: t.TempDir() + "/console", ended: make(chan struct{})}
	file := must(os.Create(p.console))
	defer file.Close()
	p.Dir, p.Stdout, p.Stderr = dir, file, file
	p.Env = append(os.Environ(), "CHAT_TEST_SERVER=1", "GORACE=atexit_sleep_ms=0")
	must(p.StdinPipe())                                 // stays open: some servers end when their input ends
	p.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a group of processes, with its children
	p.Cancel = func() error { return syscall.Kill(-p.Process.Pid, syscall.SIGKILL) }
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { // ends with the program
		p.Wait()
		close(p.ended)
	}()
	t.Cleanup(func() {
		p.Cancel()
		<-p.ended
		if t.Failed() {
			printed := p.printed()
			t.Logf("the server's last lines (%v):\n%s", p.ProcessState, printed[max(0, len(printed)-10000):])
		}
	})
	return p
}

// must returns the value. An error here is a fault of the test, so it panics.
func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

// printed returns all that the program has printed.
func (p *process) printed() string { return string(must(os.ReadFile(p.console))) }

// endsWithin reports whether the program ends within a time.
func (p *process) endsWithin(limit time.Duration) bool {
	select {
	case <-p.ended:
		return true
	case <-time.After(limit):
		return false
	}
}

// interrupt does what Ctrl-C does. The server must end by itself, with the exit status 0.
func (p *process) interrupt(t testing.TB) {
	p.Process.Signal(os.Interrupt)
	if (!p.endsWithin(4*time.Second) || !p.ProcessState.Success()) && brokenOff.Err() == nil {
		t.Errorf("4 s after Ctrl-C: %v, want exit status 0 (66 means a data race)", p.ProcessState)
	}
}

// launchServer starts this program again, as the server, in a new folder. before is a shell command that is run there
// first, usually "".
func launchServer(t testing.TB, before, users, address string) *process {
	dir := t.TempDir()
	os.WriteFile(dir+"/users.txt", []byte(users), 0o600)
	return launch(t, dir, "sh", "-c", before+` exec "$0" "$1"`, must(os.Executable()), address)
}

// startServer starts a server, which must survive the test and then end well. No test knows more of it than its
// address, what it prints, and its folder.
func startServer(t testing.TB, before string) (p *process, address string) {
	p = launchServer(t, before, usersFile, "127.0.0.1:0")
	t.Cleanup(func() { p.interrupt(t) })
	found := regexp.MustCompile(`127\.0\.0\.1:\d+\n`)
	for begin := time.Now(); address == "" && time.Since(begin) < 20*time.Second; {
		p.endsWithin(5 * time.Millisecond)
		address = strings.TrimSpace(found.FindString(p.printed()))
	}
	if address == "" {
		t.Fatal("the server has not printed its address")
	}
	return p, address
}

// ---- Playing conversations ----------------------------------------------------------------------

// converse plays a conversation with a new server, and then the fences. A test can go on with what it returns.
func converse(t testing.TB, kind, rows string) *conversation {
	p, address := startServer(t, "")
	c := newConversation(t, address, kind)
	c.server = p
	c.play(rows)
	for _, p := range c.peers {
		if p.user != "" {
			c.play(fmt.Sprintf("%s > /msg %[2]s fence -> [%[2]s]: fence | Message sent to %[2]s.", p.name, p.user))
		}
	}
	return c
}

// A conversation is what is being played.
type conversation struct {
	testing.TB
	server  *process
	address string
	kind    string           // of the clients: "lines", "raw", or "graded" (raw, and with pauses)
	hurry   bool             // graded clients type fast
	peers   map[string]*peer // the clients, by their names in the rows
	rows    string           // all that are played
	row     string           // the one that is played now
	line    int              // its line in rows
	late    time.Time        // when all must be over
	news    chan struct{}    // somebody has heard something

	mu    sync.Mutex // guards the story, and what listen changes in the peers
	story []string   // the last things said and heard
}

// A peer is a client in a conversation.
type peer struct {
	*conversation
	name  string
	user  string // who has logged in by the verb "in", and must hear the notices and the fence
	conn  *net.TCPConn
	heard []byte // everything
	next  int    // heard[next:] is what no row has mentioned yet
	ended string // how the connection has ended: "END", or an error
	typed int    // lines
	gone  bool   // the connection is closed

	// Only for graded clients:
	answerBy time.Time // how long to wait for an answer; zero when something was heard
	unsent   []string  // in a hurry: lines that are typed, but not sent yet
	reads    int       // how often something was heard
}

// newConversation returns a conversation without clients.
func newConversation(t testing.TB, address, kind string) *conversation {
	return &conversation{TB: t, address: address, kind: kind, peers: map[string]*peer{},
		news: make(chan struct{}, 1), late: time.Now().Add(2 * time.Minute)}
}

// play plays rows.
func (c *conversation) play(rows string) {
	for i, line := range strings.Split(rows, "\n") {
		for _, row := range strings.Split(line, "; ") {
			c.rows, c.line, c.row = rows, i, strings.Trim(row, "\t ")
			if c.row == "" {
				continue
			}
			who, what, _ := strings.Cut(c.row, " ")
			for _, name := range c.names(who) {
				c.act(name, what)
			}
		}
	}
}

// names returns the names in "alice,bob" or "1..9".
func (c *conversation) names(who string) (list []string) {
	for _, name := range strings.Split(who, ",") {
		first, last := 0, 0
		_, err := fmt.Sscanf(name+" ", "%d..%d ", &first, &last)
		switch {
		case err != nil:
			list = append(list, name)
		case first > last:
			c.fail("%q is nobody", name)
		default:
			list = append(list, strings.Fields(numbered(first, last, "# "))...)
		}
	}
	return list
}

// verbs tells which verbs there are, and whether a text follows.
var verbs = map[string]bool{"in": false, "opens": false, ">": true, ">>": true, "<": true, "has": true, "lacks": true,
	"pauses": true, "half-closes": false, "deaf": false, "listens": true, "floods": true, "gone": false, "resets": false}

// act plays a row for one client. A row that makes no sense fails.
func (c *conversation) act(name, what string) {
	act, replies, replied := strings.Cut(what, " -> ")
	verb, text, hasText := strings.Cut(act, " ")
	needsText, known := verbs[verb]
	duration, err := time.ParseDuration(text)
	p := c.peers[name]
	isNew := p == nil || p.gone && (verb == "in" || verb == "opens")
	switch {
	case !known:
		c.fail("there is no verb %q", verb)
	case name == "" || hasText != needsText || regexp.MustCompile(` (->|\|)?$`).MatchString(what):
		c.fail("the row is not complete, or has too much")
	case isNew != (verb == "in" || verb == "opens"):
		c.fail("%q is connected: %v", name, !isNew)
	case err != nil && (verb == "pauses" || verb == "listens"):
		c.fail("%v", err)
	}
	if c.kind == "graded" && verb != "in" {
		c.pause(p)
	}
	switch verb {
	case "in":
		c.logIn(name)
	case "opens":
		c.connect(name)
	case ">", ">>":
		if verb == ">" && c.kind == "lines" {
			text += `\n`
		}
		p.typed++
		p.says(text)
	case "<":
		p.hears(text)
	case "has", "lacks":
		p.searches(verb, text)
	case "pauses":
		time.Sleep(duration)
	case "half-closes":
		p.user = ""
		p.conn.CloseWrite()
	case "deaf":
		p.user = ""
		p.conn.SetReadDeadline(time.Unix(1, 0)) // ends listen
		p.wait(time.Minute, func() bool { return p.ended != "" })
		p.conn.SetReadDeadline(time.Time{})
	case "listens":
		p.ended = "" // no longer deaf
		go p.listen(duration)
	case "floods":
		p.conn.SetWriteDeadline(time.Time{})
		go p.flood(p.unescape(text))
	case "gone", "resets":
		if !c.hurry { // otherwise the client closes by itself, after "/exit"
			p.leaves(verb == "resets")
		}
	}
	if replied {
		c.peers[name].hears(replies)
	}
}

// logIn plays the verb "in", which stands for other rows.
func (c *conversation) logIn(name string) {
	user := regexp.MustCompile(`^\d+$`).ReplaceAllString(name, "u$0")
	_, rest, known := strings.Cut(usersFile, "\n"+user+":")
	password, _, _ := strings.Cut(rest, "\r")
	switch {
	case !known:
		c.fail("%q is not a user", name)
	case c.kind == "graded": // a server may ask and answer in other words
		c.act(name, "opens")
		c.act(name, "> "+user)
		c.act(name, "> "+password)
		return
	}
	c.act(name, "opens -> Enter username:")
	c.act(name, "> "+user+" -> Enter password:")
	c.act(name, "> "+password+" -> Welcome to the chat server!")
	for _, other := range c.peers {
		if other.user != "" {
			other.hears(user + " has joined the chat.")
		}
	}
	c.peers[name].user = user
}

// fail ends the test and shows the row, its line in this file (not if numbered made the rows), and the conversation so far.
func (c *conversation) fail(format string, args ...any) {
	if brokenOff.Err() != nil && fuzzing() {
		c.Skip("Ctrl-C is the normal end of fuzzing")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	where := ""
	before, _, found := strings.Cut(string(must(os.ReadFile("main_test.go"))), c.rows)
	if found {
		where = fmt.Sprintf(" (main_test.go:%d)", 1+strings.Count(before, "\n")+c.line)
	}
	c.Fatalf("%s\nrow: %.200s%s\nthe conversation so far:\n    %s",
		fmt.Sprintf(format, args...), c.row, where, strings.Join(c.story, "\n    "))
}

// wait waits until ok, which is called under the lock. It gives up when nobody has heard anything for a while, or
// when the conversation takes too long. All waiting in a conversation is here.
func (c *conversation) wait(while time.Duration, ok func() bool) bool {
	for quiet := false; ; {
		c.mu.Lock()
		done := ok()
		c.mu.Unlock()
		if done || quiet || time.Now().After(c.late) {
			return done
		}
		select {
		case <-c.news:
		case <-time.After(while):
			quiet = true
		}
	}
}

// connect adds a client, which listens. A graded server may need a moment to start. If it ends, it is started again:
// without SO_REUSEADDR, its port can be blocked for a minute after the case before.
func (c *conversation) connect(name string) {
	conn, err := net.Dial("tcp", c.address)
	for begin := time.Now(); err != nil && c.kind == "graded" && c.server != nil && time.Since(begin) < 70*time.Second; {
		if c.server.endsWithin(10 * time.Millisecond) {
			time.Sleep(5 * time.Second)
			c.server = launchGraded(c)
		}
		conn, err = net.Dial("tcp", c.address)
	}
	if err != nil {
		c.fail("%s cannot connect: %v", name, err)
	}
	p := &peer{conversation: c, name: name, conn: conn.(*net.TCPConn)}
	p.conn.SetNoDelay(c.kind != "graded") // the client of the course lets TCP join its lines
	c.Cleanup(func() { p.leaves(true) })
	go p.listen(0)
	if c.kind == "graded" && !p.wait(loginTime, func() bool { return len(p.heard)+len(p.ended) > 0 }) {
		c.fail("%s gets no prompt", name) // the client of the course would wait for ever
	}
	c.peers[name] = p
}

// leaves closes the connection, or breaks it. It also breaks one that the server has closed already: otherwise the
// system would block the server's port for a minute.
func (p *peer) leaves(breaks bool) {
	if breaks || p.wait(0, func() bool { return p.ended == "END" }) {
		p.conn.SetLinger(0)
	}
	p.user, p.gone = "", true
	p.conn.Close()
}

// listen collects what the client hears, until the connection ends. It reads once in each interval.
func (p *peer) listen(interval time.Duration) {
	piece, next := make([]byte, 4096), time.Now()
	for ended := ""; ended == ""; {
		n, err := p.conn.Read(piece)
		if err != nil {
			ended = strings.ReplaceAll(err.Error(), "EOF", "END")
		}
		p.mu.Lock()
		p.note("hears", string(piece[:n])+ended)
		p.heard = append(p.heard, piece[:n]...)
		if p.kind == "graded" { // the client of the course ends a line after each read
			p.heard = append(p.heard, '\n')
		}
		p.ended, p.answerBy = ended, time.Time{}
		p.reads++
		p.sendTyped()
		p.mu.Unlock()
		select {
		case p.news <- struct{}{}:
		default: // the last news has not been noticed yet
		}
		next = next.Add(interval)
		time.Sleep(time.Until(next))
	}
}

// flood sends a text again and again, until the connection ends.
func (p *peer) flood(text string) {
	var err error
	for err == nil {
		_, err = io.WriteString(p.conn, text)
	}
}

// note adds to the story. The caller holds the lock.
func (p *peer) note(what, text string) {
	p.story = append(p.story, fmt.Sprintf("%-8s %s %.100q", p.name, what, text))
	p.story = p.story[max(0, len(p.story)-30):]
}

// unescape returns the text that is meant by \n and \x1b.
func (c *conversation) unescape(text string) string {
	plain, err := strconv.Unquote(`"` + strings.ReplaceAll(text, `"`, `\"`) + `"`)
	if err != nil {
		c.fail("a bad escape in %.80q", text)
	}
	return plain
}

// says sends a text.
func (p *peer) says(text string) {
	data := p.unescape(text)
	p.mu.Lock()
	p.note("says ", data)
	p.answerBy = time.Now().Add(answerTime)
	if p.typed <= 2 {
		p.answerBy = time.Now().Add(loginTime)
	}
	if p.hurry {
		p.unsent = append(p.unsent, data)
		p.sendTyped()
		p.mu.Unlock()
		return
	}
	p.mu.Unlock()
	p.conn.SetWriteDeadline(p.late)
	if _, err := io.WriteString(p.conn, data); err != nil {
		p.fail("%s cannot say %.80q: %v", p.name, data, err)
	}
}

// aLine matches a line. A prompt counts as one, although it does not end with a newline.
var aLine = regexp.MustCompile(`^(?:(Enter \w+:) |(.*)\n)`)

// line returns the next line that the client hears, or how the connection has ended.
func (p *peer) line(want string) (line string) {
	more := p.wait(20*time.Second, func() bool {
		found := aLine.FindSubmatch(p.heard[p.next:])
		if found == nil {
			line = string(p.heard[p.next:]) + p.ended
			return p.ended != ""
		}
		p.next += len(found[0])
		line = string(found[1]) + string(found[2])
		return true
	})
	if !more {
		p.fail("%s hears %.200q, and nothing more\n%*swants %.300q", p.name, line, len(p.name)+1, "", want)
	}
	return line
}

// hears waits for lines that are divided by " | ".
func (p *peer) hears(lines string) {
	for _, want := range strings.Split(lines, " | ") {
		got := p.line(want)
		if got != p.unescape(want) {
			p.fail("%s hears %.300q\n%*swants %.300q", p.name, got, len(p.name)+1, "", want)
		}
		if want == "END" {
			p.leaves(false)
		}
	}
}

// searches looks for regular expressions, divided by " | ", in all that the client has heard, in any case. If the
// connection has ended, "END" comes last.
func (p *peer) searches(verb, patterns string) {
	while := answerTime
	if verb == "has" {
		while = 10 * time.Second
	}
	for _, pattern := range strings.Split(patterns, " | ") {
		re, err := regexp.Compile("(?s)" + strings.ToLower(pattern))
		if err != nil {
			p.fail("%v", err)
		}
		found := p.wait(while, func() bool { return re.MatchString(strings.ToLower(string(p.heard) + p.ended)) })
		if found != (verb == "has") {
			p.fail("wanted: %s %s %s", p.name, verb, pattern)
		}
	}
}

// ---- Conversations ------------------------------------------------------------------------------

// Each row has the kinds of clients, the name, and the conversation.
func TestConversations(t *testing.T) {
	t.Parallel()
	rep := strings.Repeat
	for _, row := range [][3]string{
		{"lines raw", "message and broadcast", `
			alice,bob in
			alice > /msg bob hello, bob -> Message sent to bob.; bob < [alice]: hello, bob
			alice > /msg alice for me -> [alice]: for me | Message sent to alice.
			alice > /msg Bob hi -> Error: Bob is not online. To see who is: /users
			alice > \x20/MsG   bob   two  spaces,\ta tab \x20 -> Message sent to bob.; bob < [alice]: two  spaces,\ta tab
			alice > /msg bob x\x1b[2J\x07\r\x7f\u0085y £ü \xff -> Message sent to bob.
			bob < [alice]: x\ufffd[2J\ufffd\ufffd\ufffd\ufffdy £ü \ufffd
			alice > \x20 /USERS and more\x20 -> Online users: alice, bob
			alice > \x20\t\x20
			charlie in
			bob > /broadcast   hello  all -> Message sent to all.; alice,charlie < [bob][Broadcast]: hello  all`},
		{"lines raw", "group", `
			alice,bob,charlie in
			alice > /create_group cs -> Group cs created.
			alice > /create_group cs -> Error: group cs exists already. To join it: /join_group cs
			bob > /join_group cs -> You joined the group cs.; alice < bob has joined the group cs.
			bob > /join_group cs -> You joined the group cs.
			bob > /group_msg cs  hi  there -> Message sent to group cs.; alice < [bob][Group cs]: hi  there
			charlie > /group_msg cs hi -> Error: you are not a member of the group cs.
			charlie > /leave_group cs -> Error: you are not a member of the group cs.
			charlie > /join_group Cs -> Error: group Cs does not exist. To start it: /create_group Cs
			charlie > /join_group cs -> You joined the group cs.; alice,bob < charlie has joined the group cs.
			bob > /leave_group cs -> You left the group cs.; alice,charlie < bob has left the group cs.
			charlie > /group_msg cs bye -> Message sent to group cs.; alice < [charlie][Group cs]: bye`},
		{"lines raw", "lists, and the end of a group", `
			charlie,alice,bob in; bob > /users -> Online users: alice, bob, charlie
			charlie > /create_group zoo -> Group zoo created.
			bob > /create_group ark -> Group ark created.
			alice > /join_group zoo -> You joined the group zoo.; charlie < alice has joined the group zoo.
			charlie > /create_group ark2 -> Group ark2 created.
			bob > /groups_users -> Groups: |   ark: bob |   ark2: charlie |   zoo: alice, charlie
			bob > /leave_group ark -> You left the group ark.
			bob > /groups_users -> Groups: |   ark2: charlie |   zoo: alice, charlie
			bob > /join_group ark -> Error: group ark does not exist. To start it: /create_group ark`},
		{"lines raw", "help", `
			alice in; alice > /help -> /msg <username> <message> | /broadcast <message> | /create_group <group>
			alice < /join_group <group> | /leave_group <group> | /group_msg <group> <message> | /users
			alice < /groups_users | /help | /quit or /exit`},
		{"lines raw", "refusals", `
			alice,bob in
			alice > /msg bob -> Error: usage: /msg <username> <message>
			alice > /broadcast\x20 -> Error: usage: /broadcast <message>
			alice > /create_group -> Error: usage: /create_group <group> (one word)
			alice > /create_group two words -> Error: usage: /create_group <group> (one word)
			alice > /create_group two\twords -> Error: usage: /create_group <group> (one word)
			alice > /join_group -> Error: usage: /join_group <group>
			alice > /leave_group -> Error: usage: /leave_group <group>
			alice > /group_msg cs -> Error: usage: /group_msg <group> <message>
			alice > hello, bob -> Error: hello, is not a command. For a list of commands: /help
			alice > /msgbob hi -> Error: /msgbob is not a command. For a list of commands: /help
			alice > /msg bob ` + rep(`y`, 1015) + ` -> Message sent to bob.; bob < [alice]: ` + rep(`y`, 1015) + `
			alice > /msg bob ` + rep(`y`, 1016) + ` -> Error: a message may not be longer than 1024 bytes.
			alice > ` + rep(`y`, 3000) + ` -> Error: a message may not be longer than 1024 bytes.`},
		{"lines raw", "leaving and coming back", `
			alice,bob,charlie,david in
			bob > /create_group cs -> Group cs created.
			charlie > /create_group ark -> Group ark created.
			bob > /exit -> Goodbye! | END; alice,charlie,david < bob has left the chat.
			charlie resets; alice,david < charlie has left the chat.
			david half-closes -> END; alice < david has left the chat.
			alice > /groups_users -> Groups:
			bob in
			alice > /msg bob there? -> Message sent to bob.; bob < [alice]: there?`},
		{"lines raw", "login", `
			alice in
			a,b,c,d,e opens -> Enter username:; a > alice; b,e > bob; c > carol; a,b,c,e < Enter password:
			a > password123 -> Authentication failed: this user is logged in already. | END
			b > qwerty45; c > qwerty456; b pauses 50ms; alice > /users -> Online users: alice; b lacks failed
			b,c < Authentication failed: wrong user name or password. | END
			d half-closes -> Authentication failed: no user name, or not within 30 seconds. | END
			e half-closes -> Authentication failed: no password, or not within 30 seconds. | END
			alice > /users -> Online users: alice
			david in`},
		{"lines", "a name for one of many", `
			bob in; 1..20 opens; 1..20 >> alice\npassword123\n; 1..20 has welcome|logged in already
			bob < alice has joined the chat.; bob > /users -> Online users: alice, bob; 1..20 gone; bob < alice has left the chat.`},
		{"lines", "a group for one of many", `
			1..20 in; 1..20 >> /create_group cs\n; 1..20 has created|exists; 1..20 >> /leave_group cs\n
			1..20 has created.*you left|exists already.*you are not; 1..20 gone`},
		{"lines", "lines at once and in pieces", `
			x opens; x >> alice\r\npass; x pauses 20ms; x >> word123\r\n/us; x pauses 20ms; x >> ers\r\n
			x < Enter username: | Enter password: | Welcome to the chat server! | Online users: alice
			x >> \n\r\n\x20\n/msg alice a\n/users\n -> [alice]: a | Message sent to alice. | Online users: alice
			x >> ` + rep(`0123456789`, 100000) + `\n/users\n
			x < Error: a message may not be longer than 1024 bytes. | Online users: alice
			x >> /msg alice hi` + rep(`\r`, 5000) + `hi\n -> Error: a message may not be longer than 1024 bytes.
			x >> /users\n/users; x half-closes -> Online users: alice | END
			y opens; y >> \n\n; y has wrong user name or password.\nEND$`},
		{"lines", "half a line", `
			alice,bob in
			alice >> /broadcast half; alice pauses 20ms; alice resets; bob < alice has left the chat.
			alice in; alice >> /broadcast half; alice half-closes -> END; bob < alice has left the chat.
			bob > /users -> Online users: bob`},
		{"lines", "much follows the end", `
			alice,bob in
			alice deaf; alice listens 25ms; alice >> ` + rep(`/help\n`, 3000) + `/quit\n` + rep(`/users\n`, 20000) + `
			alice has \n/quit or /exit\ngoodbye!\nend$; bob < alice has left the chat.
			x,y opens; x >> alice\nwrong\n` + rep(`/users\n`, 20000) + `
			y >> \x16\x03\x01` + rep(`\x00`, 100000) + `\n` + rep(`\xff`, 100000) + `\n
			x,y < Enter username: | Enter password: | Authentication failed: wrong user name or password. | END`},
		// Alice floods bob, who does not read. Charlie and u5 write to bob once, and then must wait, too. If others
		// had to wait, they would hear that bob has left before they hear their own answers.
		{"lines", "a client that does not read delays nobody", `
			alice,bob,charlie,david in; bob deaf
			alice >> ` + rep(`/msg bob `+thousand+`\n`, 1000) + `/msg david at last\n; alice pauses 300ms
			charlie > /msg david hi -> Message sent to david.; david < [charlie]: hi
			charlie > /broadcast hi -> Message sent to all.; david < [charlie][Broadcast]: hi
			david > /users -> Online users: alice, bob, charlie, david
			david > /create_group new -> Group new created.; david > /leave_group new -> You left the group new.
			5 opens; 5 >> u5\np5\n -> Enter username: | Enter password: | Welcome to the chat server!
			charlie,david < u5 has joined the chat.
			5 > /msg david hi -> Message sent to david.; david < [u5]: hi
			5 > /quit -> Goodbye! | END; charlie,david < u5 has left the chat.
			5 opens; 5 >> u5\np5\n -> Enter username: | Enter password: | Welcome to the chat server!
			charlie,david < u5 has joined the chat.; 5 > /users -> Online users: alice, bob, charlie, david, u5
			5 > /msg bob hi -> Message sent to bob.
			charlie,david,5 < bob has left the chat.; david < [alice]: at last
			5 > /users -> Online users: alice, charlie, david, u5
			alice gone; charlie,david,5 < alice has left the chat.`},
		{"lines", "a client that asks and does not read", `
			alice,bob in; bob deaf
			alice >> ` + numbered(1, 60, `/create_group `+thousand+`#\n`) + `; alice has 60 created
			bob >> ` + rep(`/groups_users\n`, 250) + `/msg alice now\n; alice lacks now
			alice has bob has left the chat; alice gone`},
		{"lines", "two who flood each other", `
			alice,bob,charlie in; alice,bob deaf
			alice floods /msg bob ` + thousand + `\n; bob floods /msg alice ` + thousand + `\n
			charlie has (alice|bob) has left; charlie gone`},
		// Bob's replies pile up. If alice had to wait for him, he would have left before she has done.
		{"lines", "a client that asks without end and reads slowly", `
			alice,bob in; bob deaf; bob listens 100ms; bob >> ` + rep(`/help\n`, 5000) + `/quit\n; alice pauses 2s
			` + rep("alice > /broadcast hello -> Message sent to all.; ", 40) + `bob gone; alice < bob has left the chat.`},
		// Bob reads 100 KB a second, and his list has 800 KB: that takes longer than the 5 s that one write may take.
		{"lines", "a client that reads slowly misses nothing", `
			alice,bob in; bob deaf; alice >> ` + numbered(1000, 1799, `/create_group `+thousand+`#\n`) + `; alice has 1799 created
			bob >> /groups_users\n; bob pauses 100ms
			` + rep(`x opens; x >> charlie\nsecure789\n/quit\n; x has Goodbye!; x gone; `, 2) + `
			alice >> ` + numbered(1, 50, `/msg bob # `+thousand+`\n`) + `/quit\n; bob listens 40ms
			bob < Groups:` + numbered(1000, 1799, ` |   `+thousand+`#: alice`) + `
			bob < charlie has joined the chat. | charlie has left the chat. | charlie has joined the chat. | charlie has left the chat.
			bob < ` + numbered(1, 50, `[alice]: # `+thousand+` | `) + `alice has left the chat.; alice gone`},
		// The goodbye is bob's last line, and when he has read it, he can log in again.
		{"lines", "leaving and coming back while others write", `
			1..3 in; 1..3 floods /msg bob hello\n/broadcast hello\n/users\n; 1..3 has u\d\]\[broadcast
			` + rep(`bob opens; bob >> bob\nqwerty456\n/users\n/quit\n; bob has welcome | goodbye!\nend$; bob gone; `, 100) + `
			1..3 gone`},
		{"raw", "commands in one read, and then a newline", `
			alice in
			alice >> /create_group a/create_group b -> Group a created. | Group b created.
			alice >> /msg alice x/MSG alice y/Users/msg alice z
			alice < [alice]: x | Message sent to alice. | [alice]: y/Users | Message sent to alice. | [alice]: z | Message sent to alice.
			alice > /msg alice see /msg bob x/users y/msg -> [alice]: see /msg bob x/users y/msg | Message sent to alice.
			alice >> /msg alice x/msg alice y\n/msg alice half -> [alice]: x/msg alice y | Message sent to alice.
			alice >> \n -> [alice]: half | Message sent to alice.; alice gone`},
	} {
		for _, kind := range strings.Fields(row[0]) {
			t.Run(row[1]+"/"+kind, func(t *testing.T) {
				t.Parallel()
				converse(t, kind, row[2])
			})
		}
	}
}

// A failing test panics when it fails, so that TestRows can see why.
type failing struct{ testing.TB }

// Fatalf takes the place of t.Fatalf.
func (failing) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }

// A row that makes no sense fails, and so does one that is not so.
func TestRows(t *testing.T) {
	t.Parallel()
	for _, tc := range [][2]string{
		{"carol in", "not a user"}, {"alice in now", "too much"}, {"alice,alice in", "connected: true"}, {"alice,,bob in", "not complete"},
		{"3..1 in", "nobody"}, {"1..x in", "not a user"}, {"alice in; alice say hello", "no verb"}, {"alice in; alice opens", "connected: true"},
		{"alice in; bob > hello", "connected: false"}, {"alice in; alice >", "not complete"}, {"alice in; alice gone a", "too much"},
		{"alice in; alice pauses 300", "missing unit"}, {"alice in; alice listens 3", "missing unit"}, {`alice in; alice > \q`, "escape"},
		{"alice in; alice > /users ->", "not complete"},
		{"alice in; alice has (", "missing closing"}, {"alice in; alice has welcome | ", "not complete"},
		{"alice in; alice lacks welcome", "lacks welcome"},
		{"alice in; alice > /users -> Online users: bob", `hears "Online users: alice"`},
		{"alice,bob in; bob > /msg alice hi -> Message sent to alice.; alice > /users -> Online users: alice, bob", `hears "[bob]: hi"`},
		{"alice,bob in; bob > /msg alice hi -> Message sent to alice.", `wants "[alice]: fence"`},
	} {
		t.Run(tc[0], func(t *testing.T) {
			t.Parallel()
			defer func() {
				message, _, shown := strings.Cut(fmt.Sprint(recover()), "\nrow: ")
				if !shown || !strings.Contains(message, tc[1]) {
					t.Errorf("it fails with %q, want %q", message, tc[1])
				}
			}()
			converse(failing{t}, "lines", tc[0])
		})
	}
}

// ---- Starting and stopping ----------------------------------------------------------------------

// A server that cannot start prints one line that says why, and its exit status is 1.
func TestNotStarting(t *testing.T) {
	t.Parallel()
	_, used := startServer(t, "")
	for _, tc := range [][4]string{ // shell command, users file, address, wanted
		{"", "\nalice:x\r\nbob\n", "127.0.0.1:0", "users.txt:3: want username:password"},
		{"", " \n:x\n", "127.0.0.1:0", "users.txt:2:"},
		{"", "alice:\n", "127.0.0.1:0", "users.txt:1:"},
		{"", "al ice:x\n", "127.0.0.1:0", "users.txt:1:"},
		{"", "alice:x\nbob:y\nalice:z", "127.0.0.1:0", "users.txt:3:"},
		{"", "alice:x\nbob:caf\xe9\n", "127.0.0.1:0", "users.txt:2:"},
		{"", "alice:x\rbob:y\r", "127.0.0.1:0", "users.txt:1:"},
		{"", "alice:x\ty\n", "127.0.0.1:0", "users.txt:1:"},
		{"", numbered(1, 100000, "user#:p\n") + "user7:x\n", "127.0.0.1:0", "users.txt:100001:"},
		{"rm users.txt;", "", "127.0.0.1:0", "users.txt: no such file"},
		{"touch logs;", "alice:x", "127.0.0.1:0", "logs"},
		{"", "alice:x", used, "address already in use"},
	} {
		p := launchServer(t, tc[0], tc[1], tc[2])
		ended, said := p.endsWithin(20*time.Second), p.printed()
		if !ended || p.ProcessState.ExitCode() != 1 || strings.Count(said, "\n") != 1 || !strings.Contains(said, tc[3]) {
			t.Errorf("with %.50q: %v and %q, want exit status 1 and one line with %q", tc[1], p.ProcessState, said, tc[3])
		}
	}
}

// The log tells who comes and who goes, on the console and in the file, but no secrets.
func TestLog(t *testing.T) {
	t.Parallel()
	p := converse(t, "lines", `
		w opens; w gone; alice,bob in; x,y opens -> Enter username:
		x > secret -> Enter password:; x > secret -> Authentication failed: wrong user name or password. | END
		y > alice -> Enter password:; y > password123 -> Authentication failed: this user is logged in already. | END
		alice > /msg bob secret -> Message sent to bob.; bob < [alice]: secret
		alice > /quit -> Goodbye! | END; bob < alice has left the chat.
		charlie in; charlie deaf; charlie >> `+strings.Repeat(`/help\n`, 3000)+`
		bob < charlie has left the chat.; bob > /quit -> Goodbye! | END`).server
	p.interrupt(t)
	path := p.Dir + "/logs/" + time.Now().Format(time.DateOnly) + ".log"
	file, mode := string(must(os.ReadFile(path))), must(os.Stat(path)).Mode()
	got := regexp.MustCompile(`(?m)^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d |:\d{4,}`).ReplaceAllString(file, "")
	want := `INFO serving on 127.0.0.1
INFO alice logged in from 127.0.0.1
INFO bob logged in from 127.0.0.1
WARN login failed from 127.0.0.1: wrong user name or password
WARN login failed from 127.0.0.1: this user is logged in already
INFO alice logged out from 127.0.0.1
INFO charlie logged in from 127.0.0.1
WARN charlie dropped: write tcp 127.0.0.1->127.0.0.1: i/o timeout
INFO charlie logged out from 127.0.0.1
INFO bob logged out from 127.0.0.1
INFO shutting down
`
	if got != want || file != p.printed() || mode != 0o600 {
		t.Errorf("the log file (%v) has\n%s\nthe console has\n%s", mode, file, p.printed())
	}
}

// After Ctrl-C, the goodbye is everybody's last line, whatever is going on: u1 to u4 flood each other, bob has typed half
// a command, charlie begins to read only then, david never reads, x logs in. (Under nohup, SIGHUP does no harm.)
//
// This test is not parallel: the server gives everybody only 1.5 s to read the goodbye.
func TestStopping(t *testing.T) {
	p, address := startServer(t, "trap '' HUP;")
	p.Process.Signal(syscall.SIGHUP)
	c := newConversation(t, address, "lines")
	c.play(`alice,bob,charlie,david,1..5 in; charlie,david deaf; bob >> /broadcast half; x opens -> Enter username:
		1..4 floods /msg u1 hello\n/users\n; 1 has u4]: hello
		alice floods /msg charlie ` + thousand + `\n; 5 floods /msg david ` + thousand + `\n; 5 pauses 500ms`)
	p.Process.Signal(os.Interrupt)
	c.play(`x pauses 50ms; x >> u6\np6\n; charlie listens 0s
		alice,bob,charlie,1..5,x has server is shutting down\.\nend$; bob,1 lacks half`)
	p.interrupt(t) // while david is still there
}

// The client shows what the server says, and ends with it. Its exit status tells how.
func TestClient(t *testing.T) {
	t.Parallel()
	client := t.TempDir() + "/client"
	must(exec.Command("go", "build", "-o", client, "./client").Output())
	_, address := startServer(t, "")
	breaking := must(net.Listen("tcp", "127.0.0.1:0"))
	go func() { // ends with the only client
		conn := must(breaking.Accept()).(*net.TCPConn)
		conn.Read(make([]byte, 1)) // when the client has typed something, it is connected
		conn.SetLinger(0)
		conn.Close()
	}()
	const prompts, welcome = "Enter username: Enter password: ", "Welcome to the chat server!\nOnline users: alice\n"
	for _, tc := range [][3]string{
		{address, "alice\npassword123\n/users\n/quit\n", prompts + welcome + "Goodbye!\nexit status 0"},
		{address, "alice\npassword123\n/users\n", prompts + welcome + "exit status 0"},
		{address, "alice\nwrong\n", prompts + "Authentication failed: wrong user name or password.\nexit status 0"},
		{breaking.Addr().String(), "x", "the connection broke: ERROR\nexit status 1"},
		{"127.0.0.1:1", "", "cannot connect; is the server running? ERROR\nexit status 1"},
	} {
		cmd := exec.Command(client, tc[0])
		cmd.Stdin = strings.NewReader(tc[1])
		output, _ := cmd.CombinedOutput()
		said := regexp.MustCompile(`\S*(read|write|dial)\S* tcp .*`).ReplaceAllString(string(output), "ERROR")
		got := said + cmd.ProcessState.String()
		if got != tc[2] {
			t.Errorf("after %q: %q, want %q", tc[1], got, tc[2])
		}
	}
}

// ---- Slow clients and many clients --------------------------------------------------------------

// Everybody types every command at once: nobody is lost, and the race detector finds nothing. Then two users
// broadcast at the same time, and two others hear the same lines in the same order.
func TestCrowd(t *testing.T) {
	t.Parallel()
	c := converse(t, "lines", "1..20 in")
	c.play("1..20 >> " + strings.Repeat(everyCommand, 20) + `/msg u1 done\n; 1 has (u\d+\]: done.*){20}`)
	c.play("1,2 >> " + strings.Repeat(`/broadcast order\n`, 1000) + `/broadcast end\n; 3,4 has u1[^\n]*end | u2[^\n]*end`)
	order := regexp.MustCompile(`\[u.*: order\n`)
	heard3, heard4 := order.FindAll(c.peers["3"].heard, -1), order.FindAll(c.peers["4"].heard, -1)
	if len(heard3) != 2000 || fmt.Sprintf("%s", heard3) != fmt.Sprintf("%s", heard4) {
		t.Errorf("two users hear %d and %d lines, want 2000 in the same order", len(heard3), len(heard4))
	}
}

// A server with few descriptors runs out of them, and goes on. After 300 lives, half of them broken off, no
// descriptor, no name and no group is left, although 25 clients do not close their connections.
func TestLives(t *testing.T) {
	t.Parallel()
	p, address := startServer(t, "ulimit -n 40;")
	c := newConversation(t, address, "lines")
	c.play(`alice in; 11..35 opens; 11..35 >> alice\npassword123\n; 41..99 opens; 99 pauses 100ms; 41..99 gone` + strings.Repeat(`
		1,2 in; 1 > /create_group cs -> Group cs created.
		2 > /join_group cs -> You joined the group cs.; 1 < u2 has joined the group cs.
		1 > /quit -> Goodbye! | END; alice,2 < u1 has left the chat.; 2 resets; alice < u2 has left the chat.`, 150) + `
		alice > /groups_users -> Groups:; alice > /users -> Online users: alice; 101..125 opens -> Enter username:`)
	if !strings.Contains(p.printed(), "too many open files") {
		t.Errorf("there were descriptors enough")
	}
}

// Whatever alice sends, bob hears only clean lines that begin with her name, and the server lives.
func FuzzAlice(f *testing.F) {
	for _, kind := range []string{"lines", "raw"} {
		f.Add(kind, "/msg bob hi\n/broadcast hi\r\n/group_msg cs hi\n/leave_group cs\n/quit\n/msg bob again\n")
		f.Add(kind, "/msg bob x\r[charlie]: y\x1b[2J\u0085\u2028\xff\x00\n\n")
		f.Add(kind, "/msg bob a/msg bob b/group_msg cs c/join_group d")
		f.Add(kind, strings.Repeat("/msg bob x", 2000)+"\n/msg bob hi")
	}
	clean := regexp.MustCompile(`^(\[alice\]|alice has )[^\x00-\x08\x0a-\x1f\x7f-\x{9f}]*$`)
	_, address := startServer(f, "")
	f.Fuzz(func(t *testing.T, kind, said string) {
		c := newConversation(t, address, kind)
		c.play(`bob in; bob > /create_group cs -> Group cs created.
			alice in; alice > /join_group cs -> You joined the group cs.; bob < alice has joined the group cs.`)
		io.WriteString(c.peers["alice"].conn, said)
		c.peers["alice"].conn.CloseWrite()
		for line := ""; line != "alice has left the chat."; {
			line = c.peers["bob"].line("a line")
			if !clean.MatchString(line) {
				c.fail("bob hears %q", line)
			}
		}
		c.play("bob > /users -> Online users: bob; bob > /quit -> Goodbye! | END")
	})
}

// ---- Grading ------------------------------------------------------------------------------------

var (
	gradeAddr  = flag.String("addr", "", "TestAssignment: the server is at this `address`")
	gradeExec  = flag.String("exec", "", "TestAssignment: start the server by this `command` for each case, at 127.0.0.1:12345")
	gradeDir   = flag.String("dir", ".", "TestAssignment: the `folder` for -exec")
	gradeHurry = flag.Bool("hurry", false, "TestAssignment: type as fast as the course did")
)

const (
	answerTime = 250 * time.Millisecond // a server that has not answered by then does not answer
	loginTime  = 5 * time.Second        // the same for each prompt and the verdict
)

// courseTexts are the texts of the course, and how its replies are recognized.
var courseTexts = strings.NewReplacer(
	"T1", "On 20 December 2004, £26.5 million was stolen from the Northern Bank in Belfast, Northern Ireland",
	"T2", "Having taken family members of two bank officials hostage, an armed gang forced the workers to help them steal banknotes.",
	"T3", "It was one of the largest bank robberies in the United Kingdom.",
	"T4", "The police and the British and Irish governments claimed that the Provisional Irish Republican Army was responsible, which was denied.",
	"REFUSAL", "fail|error|exist|not",
	"WAIT", "1 pauses 2s", // only with -hurry
)

// What several cases share.
const (
	fourGroups = "1 in; 1 > /create_group CS427; WAIT; 2 in; 2 > /create_group CS428; WAIT; 3 in; 3 > /create_group CS429; WAIT; 4 in; 4 > /create_group CS430; WAIT; "
	joinAll    = "5 in; 5 > /join_group CS427; 5 > /join_group CS428; 5 > /join_group CS429; 5 > /join_group CS430; "
	msgAll     = "1 > /msg u2 T1; 1 > /msg u3 T2; 1 > /msg u4 T3; "
	msg427     = "2 > /group_msg CS427 T1; 2 > /group_msg CS427 T2; 2 > /group_msg CS427 T3; 2 > /group_msg CS427 T4; "
	joinCS425  = "1 > /create_group CS425; WAIT; 2..4 > /join_group CS425; "
)

// TestAssignment grades a server: this one, the one at -addr, or the one that -exec starts. It plays the course's cases
// with raw clients, at leisure: it waits for the answer to each line. With -hurry it does not, so the server may find two
// lines in one read.
func TestAssignment(t *testing.T) {
	create36 := numbered(0, 999, "1 > /create_group CS_u1_#; 2 > /create_group CS_u2_#; ")
	join36 := numbered(0, 999, "1 > /join_group CS_u2_#; 2 > /join_group CS_u1_#; ")
	has36 := "1 has welcome" + numbered(0, 999, " | CS_u2_#") + "; 2 has welcome" + numbered(0, 999, " | CS_u1_#")
	exit37 := numbered(1, 50, "# > /exit; # gone; ")
	msg37 := numbered(51, 99, "# > /msg u#+1 Hello to u#+1; ") + numbered(52, 100, "# has Hello to u#; ")
	cases := []struct {
		name  string
		marks float64
		rows  string
	}{
		{"01_login", 1, "1 in; 1 has welcome"},
		{"02_login_wrong", 1, "1 opens; 1 > alice; 1 > 123; 1 has failed|error"},
		{"03_msg_offline", 1, "1 in; 1 > /msg bob Hello; 1 has no"},
		{"04_msg", 1, "1,2 in; 1 > /msg u2 Hello World!; 2 has Hello World!"},
		{"05_broadcast", 1, "1..4 in; 1 > /broadcast T1; 2..4 has T1"},
		{"06_create", 1, "1 in; 1 > /create_group IITK; 1 has creat"},
		{"07_create_twice", 1, "1 in; 1 > /create_group IITK; 1 > /create_group IITK; 1 has welcome | REFUSAL"},
		{"08_join", 1, "1,2 in; 1 > /create_group CS425; WAIT; 2 > /join_group CS425; 2 has join"},
		{"09_join_missing", 1, "1,2 in; 1 > /create_group CS425; 2 > /join_group CS888; 2 has welcome | REFUSAL"},
		{"10_group_msg", 1, "1,2 in; 1 > /create_group CS425; WAIT; 2 > /join_group CS425; WAIT; 1 > /group_msg CS425 T1; 2 has T1"},
		{"11_group_msg_missing", 1, "1,2 in; 1 > /create_group CS425; 1 > /group_msg CS888 T1; 1 has welcome | REFUSAL"},
		{"12_leave", 1, "1,2 in; 1 > /create_group CS425; WAIT; 2 > /join_group CS425; 2 > /leave_group CS425; 2 has left"},
		{"13_group_msg_after_leave", 1, "1,2 in; 1 > /create_group CS425; WAIT; 2 > /join_group CS425; 2 > /leave_group CS425; 2 > /group_msg CS425 T1; 2 has welcome | REFUSAL"},
		{"14_exit_and_return", 1.5, "1,2 in; 1 > /msg u2 T1; 2 > /exit; 2 gone; 3 in; 4 opens; 4 > u2; 4 > p2; 1 > /msg u2 T2; 4 has welcome | T2"},
		{"15_msg_to_three", 1.5, "1..4 in; " + msgAll + "2..4 has welcome; 2 has T1; 3 has T2; 4 has T3"},
		{"16_msg_chain", 1.5, "1..4 in; 1 > /msg u2 T1; 2 > /msg u3 T2; 3 > /msg u4 T3; 4 > /msg u1 T4; 1..4 has welcome; 2 has T1; 3 has T2; 4 has T3; 1 has T4"},
		{"17_msg_both_ways", 1.5, "1,2 in; 1 > /msg u2 T1; 2 > /msg u1 T2; 1,2 has welcome; 2 has T1; 1 has T2"},
		{"18_broadcast_come_and_go", 1.5, "1..4 in; 1 > /broadcast T1; 5 in; 1 > /broadcast T2; 1 > /exit; 1 gone; 2 > /broadcast T3; 1..4 has welcome; 2..4 has T1; 2..5 has T2; 3..5 has T3; 1 lacks T3"},
		{"19_broadcast_by_four", 1.5, "1..4 in; 1 > /broadcast T1; 2 > /broadcast T2; 3 > /broadcast T3; 4 > /broadcast T4; 1..4 has welcome; 2,3,4 has T1; 1,3,4 has T2; 1,2,4 has T3; 1,2,3 has T4"},
		{"20_create_four", 1.5, "1..4 in; 1 > /create_group CS425; 1 > /create_group CS426; 1 > /create_group CS427; 1 > /create_group CS428; 1 has welcome | CS425 | CS426 | CS427 | CS428"},
		{"21_create_by_three", 1.5, "1..4 in; 1 > /create_group CS425; 1 > /create_group CS426; 2 > /create_group CS427; 2 > /create_group CS428; 3 > /create_group CS429; 3 > /create_group CS430; 1 has welcome | CS425 | CS426; 2 has CS427 | CS428; 3 has CS429 | CS430"},
		{"22_join_four", 1.5, "1..4 in; 2 > /create_group CS427; 2 > /create_group CS428; 3 > /create_group CS429; 3 > /create_group CS430; WAIT; " + strings.ReplaceAll(joinAll[6:], "5 >", "1 >") + "1 has welcome | CS427 | CS428 | CS429 | CS430"},
		{"23_join_by_four", 1.5, "1 in; 1 > /create_group CS427; WAIT; 2..5 in; 2..5 > /join_group CS427; 1..5 has welcome; 2..5 has CS427"},
		{"24_group_msg_by_stranger", 1.5, "1 in; 1 > /create_group CS427; WAIT; 2..5 in; " + msg427 + "1..5 has welcome; 1 has CS427; 1 lacks T1 | T2 | T3 | T4"},
		{"25_group_msg_by_member", 1.5, "1 in; 1 > /create_group CS427; WAIT; 2..5 in; 2 > /join_group CS427; " + msg427 + "1..5 has welcome; 1 has CS427 | T1 | T2 | T3 | T4"},
		{"26_group_msg_to_four", 1.5, strings.NewReplacer("29; WAIT", "29", "30; WAIT", "30").Replace(fourGroups) + joinAll + "5 > /group_msg CS427 T1; 5 > /group_msg CS428 T2; 5 > /group_msg CS429 T3; 5 > /group_msg CS430 T4; 1..5 has welcome; 1 has CS427 | T1; 2 has CS428 | T2; 3 has CS429 | T3; 4 has CS430 | T4"},
		{"27_group_msg_by_four", 1.5, fourGroups + "5 in; 2..5 > /join_group CS427; 2 > /group_msg CS427 T1; 3 > /group_msg CS427 T2; 4 > /group_msg CS427 T3; 5 > /group_msg CS427 T4; 1..5 has welcome; 1 has CS427 | T1 | T2 | T3 | T4"},
		{"28_leave_two_of_four", 1.5, fourGroups + joinAll + "5 > /leave_group CS427; 5 > /leave_group CS428; " + `1..5 has welcome; 1 has CS427; 5 has left.*\n.*left; 5 lacks left.*\n.*left.*\n.*left`},
		{"29_leave_by_four", 1.5, fourGroups + "5 in; 2..5 > /join_group CS427; 2..5 > /leave_group CS427; 1..5 has welcome; 1 has CS427; 2..5 has left"},
		{"30_leave_two_groups", 1.5, fourGroups + "5 in; 2,3 > /join_group CS427; 4,5 > /join_group CS428; 2,3 > /leave_group CS427; 4,5 > /leave_group CS428; 1..5 has welcome; 1 has CS427; 2..5 has left"},
		{"31_msg_and_broadcast", 2.5, strings.ReplaceAll(fourGroups, "WAIT; ", "") + msgAll + "2 > /broadcast T4; 1..4 has welcome; 2 has T1; 3 has T2; 4 has T3; 1,3,4 has T4"},
		{"32_msg_then_group", 2.5, "1..4 in; " + msgAll + joinCS425 + "2 > /group_msg CS425 T4; 2 > /leave_group CS425; 1..4 has welcome; 1 has CS425; 2 has T1; 3 has T2; 4 has T3; 2..4 has join; 1,3,4 has T4; 2 has left"},
		{"33_broadcast_then_group", 2.5, "1..4 in; 1 > /broadcast T1; " + joinCS425 + "2 > /group_msg CS425 T4; 2 > /leave_group CS425; 1..4 has welcome; 1 has CS425; 2..4 has T1 | join; 1,3,4 has T4; 2 has left"},
		{"34_group_and_msg", 2.5, "1..4 in; " + strings.Replace(joinCS425, "WAIT; ", "", 1) + "WAIT; " + msgAll + "2 > /group_msg CS425 T4; 2 > /leave_group CS425; 1..4 has welcome; 1 has CS425; 2 has T1; 3 has T2; 4 has T3; 2..4 has join; 1,3,4 has T4; 2 has left"},
		{"35_broadcast_and_wrong_join", 2.5, "1..4 in; 1 > /create_group CS425; WAIT; 2 > /broadcast  T1; 3 > /join_group CS888; 2 > /broadcast  T2; 3 > /join_group CS425; 2 > /broadcast  T3; 1..4 has welcome; 1 has CS425; 1,3,4 has T1 | T2 | T3; 3 has join | REFUSAL"},
		{"36_1000_groups_each", 4.5, "1..4 in; " + create36 + "WAIT; " + join36 + has36 + "; 1,2 lacks REFUSAL"},
		{"37_50_leave_50_come", 4.5, "1..50 in; 51..100 opens; " + numbered(51, 100, "# > u#; ") + exit37 + numbered(51, 100, "# > p#; ") + "WAIT; " + msg37},
	}
	t.Parallel()
	marks, most, silent := 0.0, 0.0, false
	var mu sync.Mutex // guards marks and silent
	t.Cleanup(func() { fmt.Printf("marks: %g of %g\n", marks, most) })
	for i, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			most += tc.marks
			rows, address, server := tc.rows, *gradeAddr, (*process)(nil)
			if !*gradeHurry {
				rows = strings.ReplaceAll(rows, "WAIT; ", "")
			}
			switch {
			case silent:
				t.Fatal("not played, because the server has said nothing in an earlier case")
			case *gradeExec != "":
				server, address = launchGraded(t), "127.0.0.1:12345"
			case *gradeAddr != "":
				rows = regexp.MustCompile(`CS\w+|IITK`).ReplaceAllString(rows, fmt.Sprintf("${0}_%d_%d", os.Getpid(), i))
			default:
				t.Parallel()
				_, address = startServer(t, "")
			}
			c := newConversation(t, address, "graded")
			c.server, c.hurry = server, *gradeHurry
			t.Cleanup(func() {
				mu.Lock()
				defer mu.Unlock()
				silent = len(c.peers) == 0
				if !t.Failed() {
					marks += tc.marks
				}
			})
			c.play(courseTexts.Replace(rows))
		})
	}
}

// launchGraded starts the server of -exec. A child of the server before may need a moment to end.
func launchGraded(t testing.TB) *process {
	for tries := 0; ; tries++ {
		listener, err := net.Listen("tcp", "127.0.0.1:12345")
		if err == nil {
			listener.Close()
			return launch(t, *gradeDir, strings.Fields(*gradeExec)...)
		}
		if tries == 200 {
			t.Fatalf("the port is taken, perhaps by a process that a server has left behind: %v", err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// pause is the wait before a graded client does something: for an answer to everybody, and then until it has been quiet,
// so that no older line is taken for an answer. In a hurry, it is 7 ms.
func (c *conversation) pause(p *peer) {
	case36 := len(c.rows) > 50000 // two clients type 4,000 lines, many of them at once
	if c.hurry {
		if !case36 || p == nil || p.typed%10 == 0 {
			time.Sleep(7 * time.Millisecond)
		}
		return
	}
	for _, p := range c.peers {
		for !p.wait(10*time.Millisecond, func() bool { return p.ended != "" || time.Now().After(p.answerBy) }) {
		}
	}
	quiet, late := 50*time.Millisecond, time.Now().Add(answerTime) // a system may hold a line back for 40 ms (Nagle)
	if case36 {
		quiet = 10 * time.Millisecond
	}
	if len(c.rows) < 2000 || *gradeExec+*gradeAddr != "" { // our own server needs no quiet in cases 36 and 37
		c.wait(quiet, func() bool { return time.Now().After(late) })
	}
}

// sendTyped sends what has been typed in a hurry, as the client of the course does: the user name after the first prompt,
// the password after the second, and the rest after the verdict. The caller holds the lock.
func (p *peer) sendTyped() {
	for len(p.unsent) > 0 && p.reads > min(p.typed-len(p.unsent), 2) {
		io.WriteString(p.conn, p.unsent[0])
		if p.unsent[0] == "/exit" {
			p.conn.Close()
		}
		p.unsent = p.unsent[1:]
	}
}

// ---- Benchmark ----------------------------------------------------------------------------------

// BenchmarkFanOut: u101 broadcasts to 100 others, 100 lines at a time. The floor is a bare loop that writes the same
// bytes to the same number of connections.
func BenchmarkFanOut(b *testing.B) {
	const text = "the quick brown fox jumps over the lazy dog\n"
	said, heard := strings.Repeat("/broadcast "+text, 100), strings.Repeat("[u101][Broadcast]: "+text, 100)
	b.Run("server", func(b *testing.B) {
		c := converse(b, "lines", "1..101 in; 1..100 deaf")
		c.fanOut(b, len(heard), func() { io.WriteString(c.peers["101"].conn, said) })
	})
	b.Run("floor", func(b *testing.B) {
		listener := must(net.Listen("tcp", "127.0.0.1:0"))
		c := newConversation(b, listener.Addr().String(), "lines")
		c.play("1..100 opens; 1..100 deaf")
		var far []net.Conn
		for range c.peers {
			far = append(far, must(listener.Accept()))
		}
		c.fanOut(b, len(heard), func() {
			for _, conn := range far {
				io.WriteString(conn, heard)
			}
		})
	})
}

// fanOut calls say again and again. Each time, it reads so many bytes from each of the clients 1 to 100.
func (c *conversation) fanOut(b *testing.B, size int, say func()) {
	b.ResetTimer()
	for range b.N {
		say()
		for _, name := range c.names("1..100") {
			io.CopyN(io.Discard, c.peers[name].conn, int64(size))
		}
	}
	b.StopTimer()
	b.ReportMetric(float64(100*100*b.N)/b.Elapsed().Seconds(), "lines/s")
}
