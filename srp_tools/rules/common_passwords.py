"""Common parts of passwords: the most frequent words in published lists of stolen passwords."""

_WORDS = """\
access account admin administrator adobe alexander alexis amanda america andrea andrew angel angela angels
anthony apple apples arsenal ashley august austin autumn baby babygirl bailey banana bandit barcelona baseball
basketball batman beautiful beaver benjamin bigdaddy bigdog blessed blink bond bond007 booboo boomer boston
brandon brandy bubbles buster butterfly calvin camaro carlos carolina cassie celtic changeit changeme charles
charlie cheese chelsea chester chicago chicken chocolate chris christian cluster coffee compaq computer cookie
cooper corvette cowboy cowboys daddy dakota dallas daniel danielle david debbie default defender dennis diablo
diamond doctor dolphin donald dragon dreams eagle eagles edward einstein elephant eminem enter everton faith
falcon family fender ferrari fish fishing florida flower flowers football forever frank freedom friend friends
gandalf garfield gateway genesis george ginger girls golden golf golfer google guest guitar gunner hammer hannah
happy harley hello hellokitty helpme hockey holiday hunter iceman iloveyou internet ironman jackie jackson
jaguar jasmine jason jasper jennifer jessica jessie johnny jonathan jordan joseph joshua junior justin killer
kitten knight lakers lauren legend letmein liberty linux little liverpool login london looking louise love
lovely loveme lover lovers lucky maggie marina marine marlboro martin master matrix matthew maverick melissa
mercedes merlin michael michelle mickey midnight miller mine minecraft money monika monkey monster montana
morgan mother mountain mustang naruto nascar nathan newyork nicholas nicole nintendo nothing oliver orange
packers pantera panther pass passw0rd passwd password passwort patrick peaches peanut pepper phantom phoenix
player please pokemon police porsche prince princess private pserver public purple python rabbit rachel raiders
rainbow ranger rangers rebecca redsox richard robert rocket root rosebud runner samantha samsung scooter scorpio
secret server service shadow silver simple skippy slayer smokey snoopy soccer sophie spider spiderman spring
stanley starwars steelers steven strawberry student success summer sunday sunshine superman superuser system
taylor teacher temp tennis test tester testing thanks thomas thunder tiger tigers tigger tinkerbell toor trustno
tucker turtle ubuntu united user victor victoria viking vincent volleyball wallpaper warcraft warrior welcome
whatever william willie willow winner winston winter wizard wolf world xavier yamaha yankees yellow
"""

#: Words of four letters or more, in lower case, without the digits and signs that people add to them.
COMMON = frozenset(_WORDS.split())
