// A chat server over TCP, in one file. A user logs in with a name and a password, and then writes
// to one user, to a group, or to everybody.
//
//	go run .                 serve the users of users.txt on 127.0.0.1:12345
//	go run . <host:port>     serve on another address; ":12345" lets other machines connect
//	go run ./client          start a client, in another terminal
//
// After the login, a user types commands. The constant help lists them.
//
// Two goroutines serve each client. The session reads what the user types and carries it out. The
// writer takes what has been put into the client's queue and writes it to the connection. This is
// the path of a message from alice to bob:
//
//	alice types --> session of alice --> queue of bob --> writer of bob --> bob reads
//
// Three rules keep the goroutines from disturbing each other:
//
//	R1  The lock, server.mu, guards what the goroutines share: who is online, the groups, the
//	    queues. A goroutine that holds the lock does nothing that may have to wait: it does not
//	    read from a connection, write to one, or log.
//	R2  During the login, only the session uses the connection. After the login, the session reads
//	    from it, and only the writer writes to it. In the end, the writer throws away what still
//	    comes, and closes it (hangUp).
//	R3  Only a client's own session takes the client out of the chat. If the client does not read, its
//	    writer closes the connection. Then the session carries out what it has read already, and leaves.
package main

import (
	"bufio"
	"log"
	"net"
	"sync"

	"os"        // the users file, the log file, the command line
	"os/signal" // Ctrl-C
	"slices"    // sorting names; cutting long output into pieces
	"strings"   // taking messages apart
	"time"      // time limits
)

const (
	maxMessage = 1024     // bytes, without the line end; the assignment sets this limit
	maxRead    = 4096     // bytes of one read; a line typed in a Linux terminal is never longer
	maxWrite   = 4096     // bytes of one write; small, so that it ends within writeTimeout
	maxQueue   = 32 << 10 // bytes; a client that writes to a longer queue must wait

	loginTimeout = 30 * time.Second // for name and password; a silent stranger must not stay
	writeTimeout = 5 * time.Second  // for one write, and for hanging up; a client that takes longer is dropped
)

const help = `/msg <username> <message>
/broadcast <message>
/create_group <group>
/join_group <group>
/leave_group <group>
/group_msg <group> <message>
/users
/groups_users
/help
/quit or /exit`

// A server is what all goroutines share.
type server struct {
	passwords map[string]string // by user name; never changes, so it needs no lock
	writers   sync.WaitGroup    // counts the writers that have not ended; main waits for them

	// The lock (R1) guards the fields below, and the queues of the clients. An RWMutex is a Mutex that
	// several goroutines may hold together if they only look; see waitWhile.
	mu       sync.RWMutex
	online   clients            // everybody in the chat
	groups   map[string]clients // the members of each group; a group without members is deleted
	stopping bool               // nobody can enter any more
}

// A clients map finds a client by its user name.
type clients map[string]*client

// A client is one connection.
type client struct {
	conn *net.TCPConn
	name string // set at the login; never changes after it

	// Only the session uses these fields.
	in       *bufio.Reader // reads from conn
	newlines bool          // the client ends its messages with newlines; see next
	slow     []*client     // receivers whose queues are too long; carryOut waits for them

	// The lock guards these fields (R1).
	queue      []byte // lines that wait for the writer
	fromOthers int    // how many bytes of the queue have come through send; see there
	closed     bool   // the queue takes no more lines: the client has left, or the server stops

	notEmpty *sync.Cond // the writer waits here until the queue has lines; see take
	notFull  *sync.Cond // sessions wait here until the queue has room; see waitWhile
}

// ---- Starting and stopping ----------------------------------------------------------------------
//
// A mistake at the start ends the program. SHORTCUT marks a place where a real server does more.

// main runs the server until Ctrl-C.
func main() {
	address := "127.0.0.1:12345"
	if len(os.Args) > 1 {
		address = os.Args[1]
	}
	s := &server{passwords: loadUsers("users.txt"), online: clients{}, groups: map[string]clients{}}
	openLog()
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt)
	listener, err := net.Listen("tcp", address) // SHORTCUT: a real server encrypts, with crypto/tls
	if err != nil {
		log.Fatalf("ERROR %v", err)
	}
	log.Printf("INFO serving on %v", listener.Addr())
	go s.serve(listener) // ends with the program

	<-interrupted
	time.AfterFunc(1500*time.Millisecond, func() { os.Exit(0) }) // do not wait longer for slow clients
	s.stop()
	log.Print("INFO shutting down")
	s.writers.Wait()
}

// loadUsers reads a file of username:password lines. A mistake in the file ends the program. Otherwise
// only a failed login would show the mistake.
//
// SHORTCUT: the passwords are plain text, because the assignment says so. A real server stores a hash
// of each, which is slow to compute. Then a thief of the file needs a long time for each guess.
func loadUsers(path string) map[string]string {
	text, err := os.ReadFile(path)
	if err != nil {
		log.Fatalf("ERROR %v", err)
	}
	passwords := map[string]string{}
	withoutMark := strings.TrimPrefix(string(text), "\ufeff") // some editors begin a file with this
	for i, line := range strings.Split(withoutMark, "\n") {
		line = strings.TrimSuffix(line, "\r") // some editors end a line with this
		name, password, _ := strings.Cut(line, ":")
		switch {
		case strings.TrimSpace(line) == "": // skip it
		case name == "", password == "", passwords[name] != "", strings.Contains(name, " "),
			strings.Contains(line, "\t"), line != strings.Map(visible, line):
			log.Fatalf("ERROR %s:%d: want username:password (UTF-8, no control characters, "+
				"no spaces in the name, each name once)", path, i+1)
		default:
			passwords[name] = password
		}
	}
	return passwords
}

// openLog lets the log go to the console and to a file, which is named after the day of the start.
// Passwords and messages are never logged.
func openLog() {
	os.Mkdir("logs", 0o700) // usually it exists already; if it cannot be made, OpenFile fails
	path := "logs/" + time.Now().Format(time.DateOnly) + ".log"
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		log.Fatalf("ERROR %v", err)
	}
	log.SetOutput(consoleAndFile{file})
}

type consoleAndFile struct{ file *os.File }

// Write is called by the package log for each line. The file gets the line even if the terminal was closed.
func (out consoleAndFile) Write(line []byte) (int, error) {
	os.Stderr.Write(line)
	return out.file.Write(line)
}

// serve starts a session for each connection. Accept fails when the process has as many connections
// and files open as the system allows. Some clients may leave soon, so serve tries again later.
//
// SHORTCUT: anybody may open any number of connections. A real server limits them for each address.
func (s *server) serve(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			log.Printf("ERROR %v", err)
			time.Sleep(time.Second)
			continue
		}
		go s.handle(conn.(*net.TCPConn)) // ends when the client has left, or when the login has failed
	}
}

// stop says goodbye to the whole chat, and closes all queues, in one step. So no line can come after a goodbye.
// Then the writers write what is in the queues, and end.
func (s *server) stop() {
	s.mu.Lock()
	s.stopping = true
	for _, c := range s.online {
		c.put("Server is shutting down.\n")
		c.closeQueue()
	}
	s.mu.Unlock()
}

// ---- The life of a connection -------------------------------------------------------------------
//
// A session logs its client in, enters the chat, carries out commands, and leaves the chat. A client
// may leave with /quit, close its connection, or stop reading. In each case its session calls leave:
// for /quit in execute, otherwise in chat. So there is one function that cleans up.

// handle is the session of one connection.
//
// It makes the send buffer small. There, the operating system keeps bytes on their way to the client. If it
// is full, a write goes on only when about a third of it is free (on Linux). With a large buffer, a slow
// client needs longer than writeTimeout for that, and would be dropped.
func (s *server) handle(conn *net.TCPConn) {
	conn.SetWriteBuffer(64 << 10) // bytes
	c := &client{conn: conn, in: bufio.NewReaderSize(conn, maxRead)}
	c.notEmpty = sync.NewCond(&s.mu)
	c.notFull = sync.NewCond(s.mu.RLocker()) // for RLocker, see waitWhile
	refusal := s.login(c)
	if refusal != "" {
		conn.Write([]byte("Authentication failed: " + refusal + ".\n"))
		hangUp(conn)
		return
	}
	s.chat(c)
}

// login asks for name and password, and lets the client enter the chat. On failure, it returns the
// reason. A wrong name gets the same answer as a wrong password. Otherwise a stranger could find out
// which names exist. A name that fails is not logged, because some users type their password there.
//
// SHORTCUT: a stranger can try passwords on many connections at once. A real server counts failures.
func (s *server) login(c *client) (refusal string) {
	c.conn.SetReadDeadline(time.Now().Add(loginTimeout))
	c.conn.Write([]byte("Enter username: "))
	name, err := c.next()
	if err != nil {
		return "no user name, or not within 30 seconds" // not logged: nobody has tried to log in
	}
	c.conn.Write([]byte("Enter password: "))
	password, err := c.next()
	c.conn.SetReadDeadline(time.Time{}) // no deadline: in the chat, a client may be silent
	want, known := s.passwords[name]
	switch {
	case err != nil:
		refusal = "no password, or not within 30 seconds"
	case !known || password != want:
		time.Sleep(time.Second) // slows down guessing
		refusal = "wrong user name or password"
	default:
		c.name = name
		refusal = s.enter(c)
	}
	if refusal == "" {
		log.Printf("INFO %s logged in from %v", name, c.conn.RemoteAddr())
	} else {
		log.Printf("WARN login failed from %v: %s", c.conn.RemoteAddr(), refusal)
	}
	return refusal
}

// enter puts a client into the chat and starts its writer, or returns the reason why not.
//
// Looking for the name and taking it are one step under the lock. If enter gave the lock back in
// between, two logins of alice could both find that she is not online, and both enter.
func (s *server) enter(c *client) (refusal string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.stopping:
		return "the server is shutting down"
	case s.online[c.name] != nil:
		return "this user is logged in already"
	}
	s.online[c.name] = c
	c.put("Welcome to the chat server!\n")
	c.sendAll(s.online, c.name+" has joined the chat.\n")
	c.slow = nil // a newcomer does not wait for queues that others have filled
	s.writers.Add(1)
	go s.write(c) // ends after leave or stop has closed the queue
	return ""
}

// chat carries out commands until the client has left. If the connection ends before a line is
// complete, next returns an error, and the line is lost.
func (s *server) chat(c *client) {
	for {
		message, err := c.next()
		if err != nil {
			s.mu.Lock()
			s.leave(c)
			s.mu.Unlock()
			return
		}
		if s.carryOut(c, message) {
			return
		}
	}
}

// leave takes a client out of the chat and out of its groups, and tells the others. Then its user
// can log in again, even if the writer still has lines to write. The caller holds the lock.
func (s *server) leave(c *client) {
	delete(s.online, c.name)
	for name := range s.groups { // in Go, a loop may delete from its map
		s.removeMember(name, c)
	}
	c.sendAll(s.online, c.name+" has left the chat.\n")
	c.closeQueue()
}

// hangUp closes a connection without losing the last lines. It waits for the client, but not longer
// than writeTimeout. Close alone is not enough:
//
//  1. Alice sends "/quit" and, a moment later, "/users". The session ends at "/quit".
//  2. The server closes the connection while "/users" is still unread.
//  3. TCP resets the connection, to tell alice that her bytes were lost. If "Goodbye!" has not reached
//     alice's program yet, the reset destroys it.
//
// So hangUp first closes only the sending side. Alice's program reads all lines, finds the end, and
// closes its side. Meanwhile, hangUp reads what still comes. After that, it calls Close.
func hangUp(conn *net.TCPConn) {
	conn.CloseWrite()
	conn.SetReadDeadline(time.Now().Add(writeTimeout))
	rest := make([]byte, maxRead)
	var err error
	for err == nil {
		_, err = conn.Read(rest)
	}
	conn.Close()
}

// ---- From bytes to messages ---------------------------------------------------------------------
//
// TCP carries bytes, not messages. If a client sends "hello" and then "world", one read of the server
// may bring "helloworld", or "hel". Finding the ends of the messages is called framing. Many protocols
// end each message with a delimiter. Clients that end their messages with a newline are called line
// clients here, for example nc and the client in the folder client.
//
// The course's own client sends no delimiter: it is a raw client. The server assumes that a read
// brings one whole message, or several commands. A client is a raw client until its first newline:
//
//	a read brings                      next returns
//	"alice"                            "alice"
//	"/join_group a/join_group b"       "/join_group a", then "/join_group b"
//	"/users\n/he"                      "/users"; from now on, this is a line client, so next waits
//	and then "lp\r\n"                  "/help"

// next waits for the next message, and returns it without its line end. It returns an error when the
// connection has ended, or the time for the login is over.
func (c *client) next() (string, error) {
	if !c.newlines {
		_, err := c.in.Peek(1) // looks at one byte, and leaves it there; waits until there is one
		if err != nil {
			return "", err
		}
		read, _ := c.in.Peek(c.in.Buffered()) // looks at all that the read has brought
		c.newlines = strings.Contains(string(read), "\n")
		if !c.newlines {
			message := firstCommand(string(read))
			c.in.Discard(len(message))
			return message, nil
		}
	}
	part, err := c.in.ReadSlice('\n')
	line := string(part)             // a copy, because part may change with the next read
	for err == bufio.ErrBufferFull { // over maxRead bytes: skip the rest; the line will be refused
		_, err = c.in.ReadSlice('\n')
	}
	return strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r"), err
}

// firstCommand returns what one read has brought, up to the second command in it. A second command
// begins at one of the words below, if no space stands before it. (The words of commands without arguments
// are not there: "/msg bob hi/quit" is one message.)
//
// SHORTCUT: this is a guess. "/msg bob see docs/msg x" is cut in two, and so is the password "a/msg b".
// A real protocol has a delimiter.
func firstCommand(read string) string {
	words := []string{"/msg ", "/broadcast ", "/create_group ", "/join_group ", "/leave_group ", "/group_msg "}
	for i := 1; i < len(read); i++ { // at 0, the first command begins
		for _, word := range words {
			end := min(i+len(word), len(read))
			if read[i-1] != ' ' && strings.EqualFold(read[i:end], word) {
				return read[:i]
			}
		}
	}
	return read
}

// ---- From queues to connections -----------------------------------------------------------------
//
// Suppose that bob has stopped reading. If alice's session wrote to bob's connection, it would have
// to wait there, and alice could do nothing else. So her session only appends to bob's queue, and
// bob's writer writes to the connection.
//
// A queue needs a limit. If alice writes faster than bob reads, his queue would fill the memory. So if
// bob's queue is too long after a command of alice, her session waits until bob's writer has taken the
// lines. Alice then writes as slowly as bob reads. This is called backpressure.
//
// Replies to bob go into the same queue, but only bob's own session waits for them. Otherwise, after a
// single line to bob, alice would have to wait until he has read all his replies. So alice's session
// looks only at fromOthers, and bob's own session looks at the whole queue.
//
// SHORTCUT: a slow reader slows down everybody who writes to it. A real server drops such a client, or
// stores the lines. Nobody waits after a login or a logout, so thousands of them can fill a queue.

// put appends a line to the client's queue. It never waits. The caller holds the lock.
func (c *client) put(line string) {
	if !c.closed {
		c.queue = append(c.queue, line...)
		c.notEmpty.Signal()
	}
}

// closeQueue lets the writer end when the queue is empty. The caller holds the lock.
func (c *client) closeQueue() {
	c.closed = true
	c.notEmpty.Signal()
}

// send puts a line into the queue of a receiver. If the queue is too long now, send adds the
// receiver to slow, for carryOut. The caller holds the lock.
func (c *client) send(to *client, line string) {
	to.put(line)
	to.fromOthers += len(line)
	if to.fromOthers > maxQueue {
		c.slow = append(c.slow, to)
	}
}

// sendAll sends a line to all receivers except c. The caller holds the lock.
func (c *client) sendAll(receivers clients, line string) {
	for _, to := range receivers {
		if to != c {
			c.send(to, line)
		}
	}
}

// How does a goroutine wait for another? Suppose that alice's session holds the lock, and sees that
// bob's queue is too long. It has two bad choices:
//
//   - It keeps the lock and waits. Bob's writer needs the lock to take the lines, so it can never take
//     them. Both wait for ever: this is a deadlock.
//   - It gives the lock back, and then goes to sleep. In between, the writer takes the lines and wakes
//     all who sleep. Alice's session falls asleep a moment later, and nobody wakes it.
//
// A condition variable, sync.Cond, solves this. Its method Wait gives the lock back and goes to sleep
// in one step. (So R1 holds.) When it is woken, it takes the lock again. By then, somebody else may have
// filled the queue again. So Wait is always in a loop that checks again:
//
//	who waits      until                                          where       woken by
//	a writer       its queue has lines, or is closed              notEmpty    put, closeQueue
//	a session      the queue is not too long any more             notFull     take
//
// Signal wakes one goroutine: notEmpty needs no more, because a queue has only one writer. Broadcast wakes
// all, because many sessions may wait at notFull.
//
// Can this still end in a deadlock? Suppose that alice and bob flood each other, and neither of them reads.
// Each session waits for the other's queue. But both writers have lines to write, so they wait for no
// session: after writeTimeout, their writes fail. Each writer then closes its connection and empties its
// queue, so both sessions go on.

// waitWhile waits while a client's queue is too long. The caller does not hold the lock.
//
// It only looks, so RLock is enough. (With Lock, the sessions that wait would look one after the other.)
// Nobody else can use RLock, because every command changes a queue. handle has made notFull with RLocker,
// so Wait gives back RLock, and not Lock.
func (s *server) waitWhile(c *client, tooLong func() bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for tooLong() {
		c.notFull.Wait()
	}
}

// take waits until the client's queue has lines, and takes them all. If the queue is closed and empty,
// it returns nothing. The caller does not hold the lock.
func (s *server) take(c *client) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(c.queue) == 0 && !c.closed {
		c.notEmpty.Wait()
	}
	batch := c.queue
	c.queue = nil
	c.fromOthers = 0
	c.notFull.Broadcast()
	return batch
}

// write is the writer of a client. It writes in pieces, each with its own time limit, because a long
// list takes a slow reader a long time. If the client is gone or too slow, write closes the connection (R3).
// Then all further writes fail at once. So the queue becomes empty, and nobody waits for it.
func (s *server) write(c *client) {
	defer s.writers.Done() // enter has called Add
	dropped := false
	for {
		batch := s.take(c)
		if len(batch) == 0 {
			break
		}
		for piece := range slices.Chunk(batch, maxWrite) {
			c.conn.SetWriteDeadline(time.Now().Add(writeTimeout))
			_, err := c.conn.Write(piece)
			if err != nil && !dropped {
				c.conn.Close()
				log.Printf("WARN %s dropped: %v", c.name, err)
				dropped = true
			}
		}
	}
	log.Printf("INFO %s logged out from %v", c.name, c.conn.RemoteAddr())
	hangUp(c.conn) // does no harm if the connection is closed already
}

// ---- Commands -----------------------------------------------------------------------------------
//
// Each command is one step under the lock: its changes, its messages to others, and its reply. So nothing
// can come between its parts, and all users see all events in the same order. carryOut holds the lock
// while a command runs. The commands neither take the lock nor wait for anything.
//
// To add a command, add a case to execute, a function, and a line to help. (If it has arguments, add its
// word to firstCommand, too.) The course's tests look for words in the replies. So a refusal begins with
// "Error: ", and it contains "not" or "exist", or shows the usage. Other replies must not contain "fail",
// "error", "exist" or "not".

// carryOut carries out a message and queues the reply. Then it gives the lock back, and waits while the
// queue of a receiver, or of c, is too long. It reports whether the client has left: by /quit, or because
// the server stops.
func (s *server) carryOut(c *client, message string) (left bool) {
	s.mu.Lock()
	reply := s.execute(c, message)
	if reply != "" {
		c.put(reply + "\n")
	}
	left = c.closed // by leave, after /quit, or by stop
	s.mu.Unlock()
	if left {
		return true
	}
	for _, to := range c.slow {
		s.waitWhile(to, func() bool { return to.fromOthers > maxQueue })
	}
	s.waitWhile(c, func() bool { return len(c.queue) > maxQueue })
	c.slow = nil
	return false
}

// execute carries out a message and returns the reply. The lock is held here and in all commands below.
func (s *server) execute(c *client, message string) (reply string) {
	if len(message) > maxMessage {
		return "Error: a message may not be longer than 1024 bytes."
	}
	word, rest := cutWord(strings.Map(visible, message))
	name, text := cutWord(rest)
	switch strings.ToLower(word) {
	case "":
		return "" // an empty line
	case "/msg":
		return s.msg(c, name, text)
	case "/broadcast":
		return s.broadcast(c, rest)
	case "/create_group":
		return s.createGroup(c, rest)
	case "/join_group":
		return s.joinGroup(c, rest)
	case "/leave_group":
		return s.leaveGroup(c, rest)
	case "/group_msg":
		return s.groupMsg(c, name, text)
	case "/users":
		return "Online users: " + strings.Join(sortedKeys(s.online), ", ")
	case "/groups_users":
		return s.listGroups()
	case "/help":
		return help
	case "/quit", "/exit":
		c.put("Goodbye!\n")
		s.leave(c)
		return ""
	}
	return "Error: " + word + " is not a command. For a list of commands: /help"
}

// cutWord cuts a text, without spaces and tabs around it, at the first space.
func cutWord(text string) (word, rest string) {
	word, rest, _ = strings.Cut(strings.Trim(text, " \t"), " ")
	return word, strings.Trim(rest, " \t")
}

// visible makes strings.Map replace control characters. They could clear the screen of a terminal, or
// begin a line that seems to come from the server. strings.Map itself replaces invalid UTF-8.
func visible(char rune) rune {
	isControl := char < ' ' || (char >= 0x7F && char <= 0x9F)
	if isControl && char != '\t' {
		return '\uFFFD' // the replacement character
	}
	return char
}

// msg writes to one user.
//
// SHORTCUT: "sent" means that the line is in a queue. Nobody knows whether the receiver has seen it.
func (s *server) msg(c *client, name, text string) string {
	to := s.online[name]
	switch {
	case text == "":
		return "Error: usage: /msg <username> <message>"
	case to == nil:
		return "Error: " + name + " is not online. To see who is: /users"
	}
	c.send(to, "["+c.name+"]: "+text+"\n")
	return "Message sent to " + name + "."
}

// broadcast writes to everybody else.
func (s *server) broadcast(c *client, text string) string {
	if text == "" {
		return "Error: usage: /broadcast <message>"
	}
	c.sendAll(s.online, "["+c.name+"][Broadcast]: "+text+"\n")
	return "Message sent to all."
}

// createGroup starts a group with one member.
//
// SHORTCUT: a user may create any number of groups, and everybody waits while listGroups lists them.
// A real server sets a limit.
func (s *server) createGroup(c *client, name string) string {
	switch {
	case name == "" || strings.ContainsAny(name, " \t"):
		return "Error: usage: /create_group <group> (one word)"
	case s.groups[name] != nil:
		return "Error: group " + name + " exists already. To join it: /join_group " + name
	}
	s.groups[name] = clients{c.name: c}
	return "Group " + name + " created."
}

// joinGroup makes the client a member. Joining twice changes nothing, and nobody is told again. Thanks to
// the lock, the group cannot be deleted between the check and the change.
func (s *server) joinGroup(c *client, name string) string {
	group := s.groups[name]
	switch {
	case name == "":
		return "Error: usage: /join_group <group>"
	case group == nil:
		return "Error: group " + name + " does not exist. To start it: /create_group " + name
	case group[c.name] == nil: // not a member yet
		group[c.name] = c
		c.sendAll(group, c.name+" has joined the group "+name+".\n")
	}
	return "You joined the group " + name + "."
}

// leaveGroup ends a membership.
func (s *server) leaveGroup(c *client, name string) string {
	group := s.groups[name]
	switch {
	case name == "":
		return "Error: usage: /leave_group <group>"
	case group[c.name] == nil: // no member, or no such group: reading a nil map finds nothing
		return "Error: you are not a member of the group " + name + "."
	}
	s.removeMember(name, c)
	c.sendAll(group, c.name+" has left the group "+name+".\n") // to nobody, if the group was deleted
	return "You left the group " + name + "."
}

// groupMsg writes to the other members of a group.
func (s *server) groupMsg(c *client, name, text string) string {
	group := s.groups[name]
	switch {
	case text == "":
		return "Error: usage: /group_msg <group> <message>"
	case group[c.name] == nil:
		return "Error: you are not a member of the group " + name + "."
	}
	c.sendAll(group, "["+c.name+"][Group "+name+"]: "+text+"\n")
	return "Message sent to group " + name + "."
}

// removeMember takes a client out of a group, if it is a member. It deletes an empty group.
func (s *server) removeMember(name string, c *client) {
	delete(s.groups[name], c.name)
	if len(s.groups[name]) == 0 {
		delete(s.groups, name)
	}
}

// listGroups lists all groups with their members.
func (s *server) listGroups() string {
	var lines []string
	for _, name := range sortedKeys(s.groups) {
		lines = append(lines, "\n  "+name+": "+strings.Join(sortedKeys(s.groups[name]), ", "))
	}
	return "Groups:" + strings.Join(lines, "")
}

// sortedKeys returns the keys of a map (of clients or of groups) in order.
func sortedKeys[V any](m map[string]V) []string {
	var keys []string
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}
