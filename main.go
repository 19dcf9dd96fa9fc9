// A chat server over TCP in one file. It does what a university course on computer networks asks
// for: users log in with a password, then write to one user, to a group or to everybody.
//
//	go run .                   serve the users of users.txt on 127.0.0.1:12345
//	go run . <host:port>       serve on another address; ":12345" opens it to the network
//	go run ./client            start a client, in another terminal
//
// What a user can type after the login:
//
//	/msg <username> <message>          /users                /help
//	/broadcast <message>               /groups_users         /quit or /exit
//	/create_group <group>              /join_group <group>
//	/group_msg <group> <message>       /leave_group <group>
//
// Two goroutines serve each client. Its session reads commands and carries them out. Its writer
// takes lines from the client's queue and writes them. Every session can put lines into every
// queue:
//
//	alice's socket --> session(alice) --+--> queue(alice) --> writer(alice) --> alice's socket
//	                                     \ /
//	                                      X
//	                                     / \
//	bob's socket ----> session(bob) ----+--> queue(bob) ----> writer(bob) ----> bob's socket
//
// Four rules keep this safe. The code cites them by number:
//
//	R1  server.mu guards the fields below it. Nobody waits while holding it: no read, no write,
//	    no channel, no log line.
//	R2  Only its session reads from a connection. Only its session writes to it during the
//	    login, and only its writer after that.
//	R3  A queue is never closed, because a late sender would panic. The channel lastLine asks a
//	    writer to end, and closing the channel done says that it has ended.
//	R4  Only its own session takes a client out of the chat, and cleans up. Whoever else is done
//	    with a client closes its connection, or ends its reading. The session notices.
package main

import (
	"bufio"
	"log"
	"net"
	"sync"

	// The four above do most of the work. Each of these is here for something that they cannot do:
	"os"        // the users file, the log file, the command line
	"os/signal" // Ctrl-C stops the server politely
	"slices"    // lists in order
	"strconv"   // numbers in replies; which characters can be printed
	"strings"   // taking messages apart
	"syscall"   // the signals besides Ctrl-C
	"time"      // deadlines
)

// A server is what all sessions share. It is a value in main, not a set of global variables, so
// that tests can run many servers at once.
type server struct {
	// Set before the first connection and never changed, so every goroutine may read them. The
	// times are fields, not constants, so that tests need not wait so long.
	passwords    map[string]string // by user name
	log          *log.Logger
	commands     []command
	loginTimeout time.Duration // for a whole login; without it, silent strangers would pile up
	slowTimeout  time.Duration // for a client to take what it is sent
	refusalDelay time.Duration // from the beginning of a login to its refusal, at least; it slows guessing
	silence      time.Duration // ends the password of a client that sends no newlines
	acceptPause  time.Duration // after a failure to accept a connection

	sessions sync.WaitGroup // counts the sessions of clients who have logged in; main waits for them

	mu       sync.RWMutex       // guards the fields below (R1)
	online   clients            // everybody in the chat
	groups   map[string]clients // the members of each group; a group without members is deleted
	taken    map[string]bool    // names in use; a name stays taken until all know that its user left
	stopping bool               // nobody may enter any more
}

// A client is somebody who has logged in. Its fields never change, so every goroutine may read
// them.
type client struct {
	name     string
	conn     *net.TCPConn
	queue    chan string   // lines for the writer, with their newlines
	lastLine chan string   // tells the writer to write what is queued, then this line, and to end
	done     chan struct{} // closed by the writer when it ends: nobody reads the queue any more
}

// clients are some of those who are online, by user name.
type clients map[string]*client

// A command is a row of the table in newServer.
type command struct {
	word string // "/msg"
	name string // the first argument in the usage line, "<username>"; empty if there is none
	text string // the rest of the line, "<message>"; empty if there is none
	help string
	run  func(c *client, name, text string) (reply string)
	last bool // the session ends after this command
}

// newServer returns a server that is ready to serve. A new command needs a row in this table, and
// a function in the last section.
func newServer(passwords map[string]string, logger *log.Logger) *server {
	s := &server{
		passwords: passwords, log: logger,
		loginTimeout: 30 * time.Second, slowTimeout: 5 * time.Second,
		refusalDelay: time.Second, silence: time.Second, acceptPause: time.Second,
		online: clients{}, groups: map[string]clients{}, taken: map[string]bool{},
	}
	s.commands = []command{
		{word: "/msg", name: "<username>", text: "<message>", help: "write to one user", run: s.msg},
		{word: "/broadcast", text: "<message>", help: "write to all who are online", run: s.broadcast},
		{word: "/create_group", name: "<group>", help: "start a group, with you in it", run: s.createGroup},
		{word: "/join_group", name: "<group>", help: "become a member", run: s.joinGroup},
		{word: "/leave_group", name: "<group>", help: "leave it; it ends with its last member", run: s.leaveGroup},
		{word: "/group_msg", name: "<group>", text: "<message>", help: "write to the other members", run: s.groupMsg},
		{word: "/users", help: "who is online", run: s.listUsers},
		{word: "/groups_users", help: "all groups and who is in them", run: s.listGroups},
		{word: "/help", help: "this list", run: s.help},
		{word: "/quit", help: "leave the chat", run: s.quit, last: true},
		{word: "/exit", help: "the same", run: s.quit, last: true},
	}
	return s
}

// ---- Starting and stopping ----------------------------------------------------------------------
//
// A mistake that main finds before it serves ends the program, with one line that says what is
// wrong: somebody is there to read it. Whatever goes wrong later is logged, and the chat goes on.

// stopTimeout is how long a client that does not read, or does not close its side of the
// connection, can delay the end of the server.
const stopTimeout = 2 * time.Second

// main serves until SIGINT (Ctrl-C), SIGTERM or SIGHUP (the terminal was closed) comes, and then
// says goodbye to all clients. The exit status is 0 after a signal, 1 if the server could not
// start, and 2 if the command line was wrong. (go run has an exit status of its own.)
func main() {
	address := "127.0.0.1:12345" // the port of the assignment; not open to the network
	if len(os.Args) == 2 {
		address = os.Args[1]
	}
	_, port, err := net.SplitHostPort(address)
	wellFormed := err == nil && port != ""
	if len(os.Args) > 2 || !wellFormed {
		os.Stderr.WriteString("usage: go run . [host:port]\n")
		os.Exit(2)
	}
	signal.Ignore(syscall.SIGPIPE) // or a log line would kill us when "2>&1 | head" has ended
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	passwords := loadUsers("users.txt")
	logger := newLogger()
	listener, err := net.Listen("tcp", address) // SHORTCUT: a real server would use crypto/tls
	if err != nil {
		logger.Fatalf("ERROR cannot start: %v", err)
	}
	s := newServer(passwords, logger)
	go s.serve(listener) // ends when stop closes the listener
	// A log line waits if the console is stopped (Ctrl-S). This one must not keep main from the signal.
	go logger.Printf("INFO serving %d users on %v", len(passwords), listener.Addr())

	received := <-signals
	time.AfterFunc(stopTimeout, func() { os.Exit(0) }) // first, because the rest may have to wait
	s.stop(listener)
	logger.Printf("INFO stopping: %v", received)
	s.sessions.Wait()
}

// loadUsers reads the file of users, a line of username:password for each, and returns the
// passwords by user name. The first colon ends the name, so a password may hold colons and spaces.
// A bad line ends the program: a user who was left out silently would be missed much later.
//
// SHORTCUT: the passwords are stored as they are, because the assignment says so. A real server
// stores a slow, salted hash of each.
func loadUsers(path string) map[string]string {
	data, err := os.ReadFile(path)
	if err != nil {
		log.Fatalf("ERROR cannot load the users: %v", err)
	}
	text := strings.TrimPrefix(string(data), "\ufeff") // a mark that some editors put there
	passwords := map[string]string{}
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSuffix(line, "\r")
		name, password, _ := strings.Cut(line, ":")
		_, duplicate := passwords[name]
		switch {
		case strings.TrimSpace(line) == "": // an empty line is no user
		case !validName(name), strings.TrimSpace(password) == "", duplicate:
			log.Fatalf("ERROR %s:%d: want username:password; each name once, and no spaces or brackets in a name", path, i+1)
		default:
			passwords[name] = password
		}
	}
	return passwords
}

// newLogger returns the log of the server, which goes to the console and to a file that is
// named after the day of the start. Only its owner may read it: it names users and addresses.
func newLogger() *log.Logger {
	os.Mkdir("logs", 0o700) // usually it is there already; any other error shows in the next step
	path := "logs/" + time.Now().Format(time.DateOnly) + ".log"
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		log.Fatalf("ERROR cannot open the log file: %v", err)
	}
	return log.New(consoleAndFile{file}, "", log.LstdFlags)
}

// consoleAndFile is where the log goes. A line says what happened, to whom, and from which
// address. It never holds a password or the text of a message.
type consoleAndFile struct{ file *os.File }

// Write writes a line of the log. If the disk is full there is still the console, and if the
// console is gone there is still the file; so the errors do not matter.
func (w consoleAndFile) Write(line []byte) (int, error) {
	w.file.Write(line)
	os.Stderr.Write(line)
	return len(line), nil
}

// serve starts a session for each connection. It waits in Accept and ends when stop closes the
// listener. Any other error of Accept is most likely a lack of file descriptors. They come back
// when clients leave, so serve tries again after a pause. Without the pause it would spin, and
// fill the disk with log lines.
func (s *server) serve(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if err == nil {
			go s.handle(conn.(*net.TCPConn)) // ends when the connection does
			continue
		}
		s.mu.RLock()
		stopping := s.stopping
		s.mu.RUnlock()
		if stopping {
			return
		}
		s.log.Printf("ERROR cannot accept, trying again in %v: %v", s.acceptPause, err)
		time.Sleep(s.acceptPause)
	}
}

// stop lets nobody in any more, tells everybody online that the server ends, and ends their
// sessions. It takes the lock, and does not wait. A writer ends after its last line, so nothing can
// follow "Server is shutting down." All writers are told before the first session can end, so that
// nobody hears of others who leave.
func (s *server) stop(listener net.Listener) {
	s.mu.Lock()
	s.stopping = true
	online := s.online.except(nil)
	s.mu.Unlock()
	listener.Close()
	for _, c := range online {
		c.end("Server is shutting down.\n")
	}
	for _, c := range online {
		c.conn.SetReadDeadline(time.Now()) // its session ends when it has to read again
	}
}

// ---- The life of a connection -------------------------------------------------------------------
//
// A connection goes through four steps, and one goroutine, its session, leads it through all of
// them: log in, enter the chat, carry out commands, leave the chat. Whatever ends the third step,
// the client's /quit, a broken connection, a client that does not read or the end of the server,
// the session comes to the fourth. That is why cleaning up is written only once.

// sendBuffer, in bytes, is how much the system keeps for a client that is slow to read. (Linux
// doubles it.) Without this limit, the system would keep megabytes, and when they are full there is
// room again only after the client has read a good part of them. A slow client may need more than
// slowTimeout for that, and would be dropped.
const sendBuffer = 64 << 10

// handle is the session of one connection. It ends when the connection does.
func (s *server) handle(conn *net.TCPConn) {
	conn.SetWriteBuffer(sendBuffer)
	in := &messageReader{input: bufio.NewReaderSize(conn, maxRead), commands: s.commands}
	c := s.login(conn, in)
	if c == nil {
		s.hangUp(conn, in)
		return
	}
	lastLine := s.chat(c, in)
	s.leave(c, lastLine)
	s.hangUp(conn, in)
	s.sessions.Done()
}

// login asks for a user name and a password and returns the new client, who is in the chat then. It
// returns nil if the login failed, or if the connection was closed before anything was typed: that
// is no attempt, and not worth a log line. login waits for the client until loginTimeout is over,
// and before a refusal until refusalDelay is over.
//
// A wrong name and a wrong password get the same answer after the same time, or a stranger could
// find out which names exist. A name that does not exist is not logged: perhaps it is a password,
// typed at the wrong prompt.
//
// SHORTCUT: a stranger can guess on many connections at once. A real server counts the failures of
// each address.
func (s *server) login(conn *net.TCPConn, in *messageReader) *client {
	started := time.Now()
	deadline := started.Add(s.loginTimeout)
	name, password, err := s.readLogin(conn, in, deadline)
	late := time.Now().After(deadline)
	if err != nil && !late {
		return nil
	}
	// Remove the deadline now. After enter, this could remove one that stop has set to end the session.
	conn.SetReadDeadline(time.Time{})

	reason := "" // of a refusal; there is none for a wrong name or password
	switch {
	case late:
		reason = ": no login within " + strconv.Itoa(int(s.loginTimeout.Seconds())) + " seconds"
	case s.matches(name, password):
		c, problem := s.enter(name, conn)
		if problem == "" {
			return c
		}
		reason = ": " + problem
	}
	_, known := s.passwords[name]
	if !known {
		name = "an unknown user"
	}
	s.log.Printf("WARN login of %s from %v failed%s", name, conn.RemoteAddr(), reason)
	time.Sleep(time.Until(started.Add(s.refusalDelay)))
	conn.Write([]byte("Authentication failed" + reason + ".\n"))
	return nil
}

// readLogin asks for the user name and the password and returns what was typed. The error is that
// of the connection, if nothing came at all.
//
// Nobody knows yet whether this client ends its messages with newlines (see "From bytes to
// messages"). So readLogin looks again at all that has come whenever more comes:
//
//	"alice" "passw" "ord123"          no newline: the first piece is the name and the rest is the
//	                                  password, complete as soon as it is right
//	"ali" "ce\npass" "word123\n"      a newline: the first line is the name, the next the password
//
// In the first case a wrong password is complete when silence has passed without another
// piece, because a newline may still come.
func (s *server) readLogin(conn *net.TCPConn, in *messageReader, deadline time.Time) (name, password string, err error) {
	conn.SetReadDeadline(deadline)
	conn.Write([]byte("Enter username: "))
	typed, err := in.more()
	if err != nil {
		return "", "", err
	}
	conn.Write([]byte("Enter password: "))
	nameLength := len(typed) // if this is a raw client
	for !strings.Contains(typed, "\n") {
		name, password = typed[:nameLength], typed[nameLength:]
		if s.matches(name, password) {
			in.input.Discard(len(typed)) // more has left them in the reader
			return name, password, nil
		}
		if password != "" {
			conn.SetReadDeadline(time.Now().Add(min(s.silence, time.Until(deadline))))
		}
		typed, err = in.more()
		if err != nil { // silence, the deadline or the end of the connection: this is all
			return name, password, nil
		}
	}
	conn.SetReadDeadline(deadline)
	name, _ = in.next()
	password, _ = in.next() // an error is no concern: what came is right or wrong
	return name, password, nil
}

// matches reports whether this is the password of this user.
func (s *server) matches(name, password string) bool {
	want, known := s.passwords[name]
	return known && password == want
}

// enter lets a user into the chat, tells the others, and returns the new client. problem is empty,
// or the reason why the user may not enter. enter takes the lock, and waits for the
// others as send does.
//
// The welcome is queued before the client is in the list of those online, so it comes first. The
// writer starts afterwards. So whoever sees the welcome can already be written to.
func (s *server) enter(name string, conn *net.TCPConn) (c *client, problem string) {
	c = &client{name: name, conn: conn, queue: make(chan string, queueLength)}
	c.lastLine = make(chan string, 1)
	c.done = make(chan struct{})
	c.queue <- "Welcome to the chat server!\n"

	s.mu.Lock()
	others := s.online.except(c)
	switch {
	case s.stopping:
		problem = "the server is shutting down"
	case s.taken[name]:
		problem = "this user is logged in already"
	default:
		s.taken[name] = true
		s.online[name] = c
		s.sessions.Add(1)
	}
	s.mu.Unlock()
	if problem != "" {
		return nil, problem
	}
	go s.write(c) // ends after a call of c.end, or when it cannot write
	s.log.Printf("INFO %s logged in from %v", name, conn.RemoteAddr())
	s.send(name+" has joined the chat.\n", others...)
	return c, ""
}

// chat carries out a client's commands, until the client quits or its connection ends, and returns
// the last line that the client is to get. It waits for commands, and for what they wait for. The
// last message may come together with an error, so chat carries it out before it looks at the
// error. Which error it is does not matter: the client can say no more.
func (s *server) chat(c *client, in *messageReader) (lastLine string) {
	for {
		message, err := in.next()
		reply, last := s.execute(c, message)
		if last {
			return reply + "\n"
		}
		if reply != "" {
			for _, line := range strings.Split(reply, "\n") {
				s.send(line+"\n", c)
			}
		}
		if err != nil {
			return ""
		}
	}
}

// leave takes a client out of the chat and out of all groups, and tells the others. It takes the
// lock, and waits for the others as send does, and for the client's own writer.
//
// The name is given up only after the others were told. Suppose it were free at once. Alice's
// session begins to tell that she left. Alice logs in again, and her new session tells that she
// joined. Bob may hear the second before the first, and believe that alice is gone.
func (s *server) leave(c *client, lastLine string) {
	s.mu.Lock()
	delete(s.online, c.name)
	for group := range s.groups {
		s.removeMember(c, group)
	}
	others := s.online.except(c)
	if s.stopping {
		others = nil // they are told that the server ends, and need not hear who leaves first
	}
	s.mu.Unlock()

	c.end(lastLine)
	s.log.Printf("INFO %s logged out from %v", c.name, c.conn.RemoteAddr())
	s.send(c.name+" has left the chat.\n", others...)
	s.mu.Lock()
	delete(s.taken, c.name)
	s.mu.Unlock()
	<-c.done
}

// hangUp closes a connection so that the last lines arrive. A connection that is closed while
// unread bytes wait in it is reset, and a reset can destroy lines that are still on their way. So
// hangUp closes only its own direction, which the client sees as the end, and throws away what
// still comes until the client closes the other one. It waits for slowTimeout at most.
func (s *server) hangUp(conn *net.TCPConn, in *messageReader) {
	conn.CloseWrite()
	conn.SetReadDeadline(time.Now().Add(s.slowTimeout))
	var err error
	for err == nil {
		_, err = in.next()
	}
	conn.Close()
}

// ---- From bytes to messages ---------------------------------------------------------------------
//
// TCP carries a stream of bytes and knows nothing of messages. Alice writes "/users" and then
// "/help"; the server may read "/users/help" at once, or "/us" and "ers/help". Finding out where a
// message ends is called framing. Two kinds of clients come here:
//
//	line clients   end each message with a newline, the delimiter. nc, telnet and the client in
//	               this folder do. Once they are known, it does not matter how TCP cuts their bytes.
//	raw clients    send no delimiter, as the course's own client does. All the server can do is
//	               take the bytes of one read for a message, or for several commands.
//
// A client counts as raw until its first newline, and as a line client ever after.

// maxMessage, in bytes without the line end, is the limit that the assignment sets.
const maxMessage = 1024

// maxRead, in bytes, is what one read takes at most, and the memory of a reader. Nobody can type
// more than 4096 bytes into a terminal at once. So what a raw client sends fits into one read, and
// is not cut into two messages.
const maxRead = 4096

// A messageReader turns the bytes of one connection into messages. Only its session uses it (R2).
type messageReader struct {
	input    *bufio.Reader
	lines    bool      // a newline has come: this is a line client
	commands []command // what a raw client may type
}

// more waits until a read has brought more bytes, and returns all that are in the reader. They stay
// there, because Peek does not remove them. The first Peek asks for a byte more than is there, so
// it has to read. The second one returns all that is there then.
func (m *messageReader) more() (string, error) {
	_, err := m.input.Peek(m.input.Buffered() + 1)
	here, _ := m.input.Peek(m.input.Buffered())
	return string(here), err
}

// next waits for the next message and returns it without its line end. The error is that of the
// connection. The last message of a connection may come together with an error: its sender has
// closed the connection without a newline at the end.
func (m *messageReader) next() (string, error) {
	if m.lines {
		return m.nextLine()
	}
	_, err := m.input.Peek(1) // reads only if nothing is left of the last read
	here, _ := m.input.Peek(m.input.Buffered())
	text := string(here)
	if strings.Contains(text, "\n") {
		m.lines = true
		return m.nextLine()
	}
	message := m.firstCommand(text)
	m.input.Discard(len(message))
	return message, err
}

// nextLine waits for a line and returns it without its end. Of a line that is longer than the
// reader's memory it returns the beginning, which is too long for a message, and throws away the
// rest. If the connection broke, half a line is no message: "/msg bob I do not agr" is not what
// its sender meant to say.
func (m *messageReader) nextLine() (string, error) {
	bytes, err := m.input.ReadSlice('\n')
	line := string(bytes)
	for err == bufio.ErrBufferFull {
		_, err = m.input.ReadSlice('\n')
	}
	_, broken := err.(net.Error) // the orderly end of a connection, io.EOF, is none
	if broken {
		return "", err
	}
	line = strings.TrimSuffix(line, "\n")
	return strings.TrimSuffix(line, "\r"), err
}

// firstCommand returns the first command of a text from a raw client. TCP may have glued several
// together, as in "/create_group a/create_group b". A new one begins where a character that is no
// space is followed by the word of a command that takes arguments and by a space. A message that
// looks like that is cut as well: "/msg bob see x/msg y" becomes "/msg bob see x" and "/msg y".
// The messages of a client that sends newlines are never cut.
func (m *messageReader) firstCommand(text string) string {
	for i := 1; i < len(text); i++ {
		if !isSpace(text[i-1]) && m.startsCommand(text[i:]) {
			return text[:i]
		}
	}
	return text
}

// startsCommand reports whether a text begins with a command that takes arguments, and a space.
func (m *messageReader) startsCommand(text string) bool {
	for _, cmd := range m.commands {
		end := len(cmd.word)
		if cmd.name == "" && cmd.text == "" || len(text) <= end {
			continue
		}
		if strings.EqualFold(text[:end], cmd.word) && isSpace(text[end]) {
			return true
		}
	}
	return false
}

// isSpace reports whether a character separates words.
func isSpace(char byte) bool { return char == ' ' || char == '\t' }

// visible returns the character to show for a character of a message. U+FFFD takes the place of
// those that could clear a terminal, forge a line, or turn the direction of the text around.
// strings.Map, which calls this function, does the same to bytes that are not UTF-8.
func visible(char rune) rune {
	switch {
	case char == '\t':
		return char
	case char < ' ', 0x7F <= char && char <= 0x9F, // control characters
		char == 0x2028, char == 0x2029, // the ends of a line and of a paragraph
		char == 0x061C, char == 0x200E, char == 0x200F, // the directions of a text
		0x202A <= char && char <= 0x202E, 0x2066 <= char && char <= 0x2069:
		return '\uFFFD'
	}
	return char
}

// validName reports whether a user or a group may have this name. A name is typed as one word and
// shown between brackets, so it has no spaces, no brackets, and nothing that cannot be seen.
func validName(name string) bool {
	for _, char := range name {
		if !strconv.IsPrint(char) || strings.ContainsRune(" []\uFFFD", char) {
			return false
		}
	}
	return name != ""
}

// ---- From messages to sockets -------------------------------------------------------------------
//
// A session does not write to the sockets of other clients. If it did, one client that does not
// read would stop everybody who writes to it. Instead the session puts each line into the queues
// of its receivers, and each receiver's writer empties its own queue.
//
// A queue must have an end, or a client that never reads would fill the memory. When a queue is
// full there are three choices: drop the line, drop the client, or make the sender wait. Making
// the sender wait is called backpressure. This server does that for up to slowTimeout, and then
// drops the client: a client may lose its connection, but never a line in the middle.

// queueLength, in lines, is how far a client can fall behind before others wait for it.
const queueLength = 256

// maxWrite, in bytes, is how much one write hands over at most. More hardly makes it faster.
const maxWrite = 32 << 10

// send puts a line into the queues of the receivers and returns how many queues took it. (A client
// that is just leaving may take a line and never see it.) The caller must not hold the lock (R1).
// Where a queue is full, send waits for room, in all full queues at the same time. So it waits no
// longer than slowTimeout, however many receivers do not read.
//
// SHORTCUT: when alice and bob send at the same time, two receivers may get their lines in
// different order. A real server has one place that numbers all messages.
func (s *server) send(line string, receivers ...*client) (sent int) {
	var full []*client
	for _, c := range receivers {
		select {
		case c.queue <- line:
			sent++
		default:
			full = append(full, c)
		}
	}
	if len(full) == 0 {
		return sent
	}
	took := make(chan bool)
	for _, c := range full {
		go func() { took <- s.waitForRoom(line, c) }() // ends after slowTimeout, or sooner
	}
	for range full {
		if <-took {
			sent++
		}
	}
	return sent
}

// waitForRoom puts a line into a queue that was full, and reports whether it did. If there is no
// room within slowTimeout, it drops the client.
func (s *server) waitForRoom(line string, c *client) bool {
	select {
	case c.queue <- line:
		return true
	case <-c.done:
		return false
	case <-time.After(s.slowTimeout):
		s.drop(c, "its queue was full for "+s.slowTimeout.String())
		return false
	}
}

// drop closes the connection of a client. Its session finds that out and cleans up (R4). Close
// succeeds only once, so one line of the log tells of it, however many call drop.
func (s *server) drop(c *client, reason string) {
	if c.conn.Close() == nil {
		s.log.Printf("WARN %s from %v dropped: %s", c.name, c.conn.RemoteAddr(), reason)
	}
}

// write is the writer of a client (R2). It waits for a line, takes more from the queue, until they are
// maxWrite bytes, and writes them together: a write costs nearly the same for one line and for a hundred.
// It waits for the client to take them. If a write fails, the client does not read or is gone.
func (s *server) write(c *client) {
	defer close(c.done)
	var batch []byte
	for {
		select {
		case line := <-c.queue:
			batch = append(batch[:0], line...)
			for len(c.queue) > 0 && len(batch) < maxWrite {
				batch = append(batch, <-c.queue...)
			}
			err := s.writeAll(c.conn, batch)
			if err != nil {
				s.drop(c, err.Error())
				return
			}
		case lastLine := <-c.lastLine:
			batch = batch[:0]
			for range len(c.queue) { // not what comes later, or this loop might never end
				batch = append(batch, <-c.queue...)
			}
			batch = append(batch, lastLine...)
			s.writeAll(c.conn, batch) // an error is no concern: the client was leaving
			return
		}
	}
}

// writeAll writes bytes in parts of maxWrite at most. It waits for the client to take them, each
// part for slowTimeout at most.
func (s *server) writeAll(conn *net.TCPConn, bytes []byte) error {
	for len(bytes) > 0 {
		part := bytes[:min(len(bytes), maxWrite)]
		conn.SetWriteDeadline(time.Now().Add(s.slowTimeout))
		_, err := conn.Write(part)
		if err != nil {
			return err
		}
		bytes = bytes[len(part):]
	}
	return nil
}

// end tells the writer of a client to write what is in the queue, then this line, and to end. It
// does not wait. The first call counts: stop may be faster than the client's own session.
func (c *client) end(lastLine string) {
	select {
	case c.lastLine <- lastLine:
	default:
	}
}

// ---- Commands -----------------------------------------------------------------------------------
//
// Each command is a function. It gets the client who typed it and the arguments that its row in
// newServer names, and returns the reply, which may have several lines. A refusal begins with
// "Error: ". It holds the word "not" or "exist", or shows how the command is used. A reply to
// something that worked holds none of the words fail, error, exist, not, unless a user chose such
// a name. So a program can tell the two apart, and the course's grading did.
//
// Most commands work in two steps. Under the lock they look, change something, and copy the list
// of those who must hear of it. Without the lock they send. Suppose alice writes to a group:
//
//	1. Her session copies the members, alice, bob and carol, under the lock.
//	2. Bob leaves the group. His session gets the lock at once, because nobody holds it.
//	3. Alice's session sends to bob and carol. Bob gets one message more. That is harmless.
//
// Without the copy, alice's session would walk through the map of members while bob's session
// changes it: a data race, which can crash the program. If her session kept the lock in step 3, it
// would keep it while it waits for a slow client, and all others would wait, too.

// maxGroupName, in bytes, keeps the name short that stands before each message to the group.
const maxGroupName = 64

// execute carries out a message and returns the reply, which is empty for an empty message. last
// is true if the session ends with it. Everything that users type after the login is made visible
// here, so no command has to think of it.
func (s *server) execute(c *client, message string) (reply string, last bool) {
	if len(message) > maxMessage {
		return "Error: a message may not be longer than " + strconv.Itoa(maxMessage) + " bytes.", false
	}
	message = strings.Map(visible, message)
	word, text := cutWord(strings.TrimLeft(message, " \t"))
	if word == "" {
		return "", false
	}
	for _, cmd := range s.commands {
		if !strings.EqualFold(cmd.word, word) {
			continue
		}
		name := ""
		if cmd.name != "" {
			name, text = cutWord(text)
		}
		switch {
		case cmd.name != "" && name == "", // the name is missing
			cmd.text != "" && text == "", // the text is missing
			cmd.text == "" && text != "": // something is too much
			return "Error: usage: " + cmd.usage(), false
		}
		return cmd.run(c, name, text), cmd.last
	}
	return "Error: " + word + " is not a command. To write to all: /broadcast <message>. More: /help", false
}

// cutWord divides a text after its first word and the spaces that follow.
func cutWord(text string) (word, rest string) {
	end := strings.IndexAny(text, " \t")
	if end < 0 {
		return text, ""
	}
	return text[:end], strings.TrimLeft(text[end:], " \t")
}

// usage returns the command as it is typed: "/msg <username> <message>". Fields and Join leave no
// gap where the command has no name.
func (cmd command) usage() string {
	return strings.Join(strings.Fields(cmd.word+" "+cmd.name+" "+cmd.text), " ")
}

// except returns a copy of the clients, without one of them. (nil is none of them.) The caller must
// hold the lock.
func (cs clients) except(one *client) []*client {
	others := make([]*client, 0, len(cs))
	for _, c := range cs {
		if c != one {
			others = append(others, c)
		}
	}
	return others
}

// removeMember takes a client out of a group, if it is a member. With the last member the group is
// gone. The caller must hold the lock.
func (s *server) removeMember(c *client, group string) {
	delete(s.groups[group], c.name)
	if len(s.groups[group]) == 0 {
		delete(s.groups, group)
	}
}

// msg carries out /msg.
//
// SHORTCUT: a message to a user who is not online is refused. A real server keeps it for later.
func (s *server) msg(c *client, name, text string) string {
	s.mu.RLock()
	receiver, online := s.online[name]
	s.mu.RUnlock()
	if online && s.send("["+c.name+"]: "+text+"\n", receiver) == 1 {
		return "Message sent to " + name + "."
	}
	return "Error: " + name + " is not online. Who is: /users"
}

// broadcast carries out /broadcast.
func (s *server) broadcast(c *client, _, text string) string {
	s.mu.RLock()
	others := s.online.except(c)
	s.mu.RUnlock()
	sent := s.send("["+c.name+"][Broadcast]: "+text+"\n", others...)
	return "Message sent to " + count(sent, "user") + "."
}

// createGroup carries out /create_group. The look whether the group exists and its creation are
// one step under the lock: of two clients who create it at the same time, one succeeds.
//
// SHORTCUT: anybody may create any number of groups. A real server sets a limit.
func (s *server) createGroup(c *client, name, _ string) string {
	if !validName(name) || len(name) > maxGroupName {
		return "Error: not a name for a group: " + strconv.Itoa(maxGroupName) +
			" bytes at most, no brackets, no invisible characters."
	}
	s.mu.Lock()
	_, exists := s.groups[name]
	if !exists {
		s.groups[name] = clients{c.name: c}
	}
	s.mu.Unlock()
	if exists {
		return "Error: group " + name + " exists already. To join it: /join_group " + name
	}
	return "Group " + name + " created."
}

// joinGroup carries out /join_group. Joining a group twice changes nothing, and the members are
// not told again.
func (s *server) joinGroup(c *client, name, _ string) string {
	s.mu.Lock()
	members, exists := s.groups[name]
	_, again := members[c.name]
	others := members.except(c)
	if exists {
		members[c.name] = c
	}
	s.mu.Unlock()
	switch {
	case !exists:
		return noSuchGroup(name)
	case !again:
		s.send(c.name+" has joined the group "+name+".\n", others...)
	}
	return "You joined the group " + name + "."
}

// leaveGroup carries out /leave_group.
func (s *server) leaveGroup(c *client, name, _ string) string {
	s.mu.Lock()
	members, exists := s.groups[name]
	_, member := members[c.name]
	others := members.except(c)
	s.removeMember(c, name)
	s.mu.Unlock()
	switch {
	case !exists:
		return noSuchGroup(name)
	case !member:
		return notAMember(name)
	}
	s.send(c.name+" has left the group "+name+".\n", others...)
	return "You left the group " + name + "."
}

// groupMsg carries out /group_msg.
func (s *server) groupMsg(c *client, name, text string) string {
	s.mu.RLock()
	members, exists := s.groups[name]
	_, member := members[c.name]
	others := members.except(c)
	s.mu.RUnlock()
	switch {
	case !exists:
		return noSuchGroup(name)
	case !member:
		return notAMember(name)
	}
	sent := s.send("["+c.name+"][Group "+name+"]: "+text+"\n", others...)
	return "Message sent to group " + name + " (" + count(sent, "member") + ")."
}

// noSuchGroup returns the refusal for a group that is not there.
func noSuchGroup(name string) string {
	return "Error: group " + name + " does not exist. To start it: /create_group " + name
}

// notAMember returns the refusal for a group that the client is not in.
func notAMember(name string) string {
	return "Error: you are not a member of group " + name + ". To join it: /join_group " + name
}

// listUsers carries out /users.
func (s *server) listUsers(*client, string, string) string {
	s.mu.RLock()
	online := s.online.except(nil)
	s.mu.RUnlock()
	return "Online users " + list(online)
}

// listGroups carries out /groups_users. Under the lock it only copies. Sorting and making a text of
// it takes much longer.
func (s *server) listGroups(*client, string, string) string {
	groups := map[string][]*client{}
	s.mu.RLock()
	for name, members := range s.groups {
		groups[name] = members.except(nil)
	}
	s.mu.RUnlock()
	var lines []string
	for name, members := range groups {
		lines = append(lines, "\n  "+name+" "+list(members))
	}
	slices.Sort(lines)
	return "Groups (" + strconv.Itoa(len(lines)) + "):" + strings.Join(lines, "")
}

// help carries out /help: a line for each row of the table.
func (s *server) help(*client, string, string) string {
	var lines []string
	for _, cmd := range s.commands {
		lines = append(lines, cmd.usage()+" - "+cmd.help)
	}
	return strings.Join(lines, "\n")
}

// quit carries out /quit and /exit.
func (s *server) quit(*client, string, string) string { return "Goodbye!" }

// list returns the number of clients and their names in order: "(2): alice, bob".
func list(members []*client) string {
	var names []string
	for _, c := range members {
		names = append(names, c.name)
	}
	slices.Sort(names)
	return "(" + strconv.Itoa(len(names)) + "): " + strings.Join(names, ", ")
}

// count returns a number of things: "1 user", "2 users".
func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return strconv.Itoa(n) + " " + thing + "s"
}
